"""Times as people write them on a command line.

Rules of this file: pure; the present time and the time zone come from the caller.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from mertd.errors import UsageError
from mertd.memory.amounts import UNITS_S

FORMS = "2h, 30m, 21:00, 21:00:30, 2026-11-25, or '2026-11-25 21:00'"
"""What errors and help pages give as examples. `m` is minutes here."""

AGO_S = {**UNITS_S, "s": 1.0, "m": 60.0}
"""Seconds of the units of a time that has passed since then."""


def parse_time(text: str, now_ns: int, zone: tzinfo | None = None) -> int:
    """Return Unix nanoseconds: of so long ago, of the last time that a clock showed this, or of a day.

    `zone`: by default the local one. Raises `UsageError`.
    """
    words = text.strip()
    if found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z])", words, re.ASCII):
        if seconds := AGO_S.get(found[2].lower()):
            return now_ns - round(float(found[1]) * seconds * 1e9)
    elif words == "now":
        return now_ns
    now = datetime.fromtimestamp(now_ns / 1e9, zone).astimezone(zone)
    if found := re.fullmatch(r"(\d{1,2}):(\d\d)(?::(\d\d))?", words, re.ASCII):
        hour, minute = int(found[1]), int(found[2])
        second = int(found[3] or 0)
        if hour < 24 and minute < 60 and second < 60:
            then = _at(now, hour, minute, second, zone)
            return _ns(then if then <= now else _at(now - timedelta(days=1), hour, minute, second, zone))
    elif re.match(r"\d{4}-\d\d-\d\d", words):
        try:
            then = datetime.fromisoformat(words)
            return _ns(then if then.tzinfo is not None else then.replace(tzinfo=zone).astimezone(zone))
        except (ValueError, OverflowError):
            pass
    raise UsageError(f"{text!r} is not a time; write it as {FORMS}")


def _at(day: datetime, hour: int, minute: int, second: int, zone: tzinfo | None) -> datetime:
    """Return a time of day, in the offset from UTC that holds then."""
    naive = datetime(day.year, day.month, day.day, hour, minute, second)
    return naive.replace(tzinfo=zone).astimezone(zone)


def _ns(then: datetime) -> int:
    return round(then.timestamp() * 1_000_000) * 1_000
