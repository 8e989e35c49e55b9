"""How much is kept, as it is written: a time or a size.

Rules of this file: pure, and it imports nothing of the memory, for the settings of a daemon need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mertd.errors import UsageError

UNITS_S = {"h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "m": 30 * 86_400.0, "y": 365 * 86_400.0}
"""Seconds of the units of time: hours, days, weeks, months of 30 days, years of 365 days."""

UNITS_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
"""Bytes of the units of size."""

MIN_BYTES = 10**9
"""Least size that may be kept: several times the file that is being written."""


@dataclass(frozen=True)
class Keep:
    """What is kept. One of the two, or neither: then everything."""

    seconds: float | None = None
    bytes: int | None = None


def parse_keep(text: str | None) -> Keep:
    """Return what `2y` or `50GB` says. Raises `UsageError`."""
    if text is None:
        return Keep()
    found = Keep(seconds_of(text), bytes_of(text))
    if found.seconds is None and found.bytes is None:
        raise UsageError(f"keep: {text!r} is neither a time nor a size; write it as 2y, 30d, 12h or 50GB")
    if found.bytes is not None and found.bytes < MIN_BYTES:
        raise UsageError(f"keep: {text!r} is too little; keep at least 1GB, for files are deleted whole")
    return found


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time, as `2y`, `30d` or `12h`; None if it is none, or 0."""
    return _scaled(text, UNITS_S, str.lower) or None


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size, as `50GB`; None if it is none."""
    return None if (size := _scaled(text, UNITS_BYTES, str.upper)) is None else round(size)


def _scaled(text: str, units: Mapping[str, float], cased: Callable[[str], str]) -> float | None:
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", text, re.ASCII)
    if found is None or (unit := units.get(cased(found[2]))) is None:
        return None
    return float(found[1]) * unit
