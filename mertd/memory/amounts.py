"""How much is kept, as it is written: a time or a size.

Rules of this file: pure, and it imports nothing of the memory, for the settings of a daemon need it.
"""

from __future__ import annotations

import re
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
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", text, re.ASCII)
    if found is not None:
        number, unit = float(found[1]), found[2]
        if (seconds := UNITS_S.get(unit.lower())) and number > 0:
            return Keep(seconds=number * seconds)
        if size := UNITS_BYTES.get(unit.upper()):
            if number * size < MIN_BYTES:
                raise UsageError(f"keep: {text!r} is too little; keep at least 1GB, for files are deleted whole")
            return Keep(bytes=round(number * size))
    raise UsageError(f"keep: {text!r} is neither a time nor a size; write it as 2y, 30d, 12h or 50GB")
