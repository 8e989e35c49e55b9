from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mertd.errors import UsageError
from mertd.memory.time_words import parse_time

BERLIN = ZoneInfo("Europe/Berlin")
NOW_NS = int(datetime(2026, 10, 25, 12, 0, tzinfo=BERLIN).timestamp()) * 10**9
"""The day on which summer time ended there, at noon."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2026-10-25T09:00:00+00:00"),
        ("90s", "2026-10-25T10:58:30+00:00"),
        ("1.5h", "2026-10-25T09:30:00+00:00"),
        ("now", "2026-10-25T11:00:00+00:00"),
        ("11:30", "2026-10-25T10:30:00+00:00"),
        ("21:00", "2026-10-24T19:00:00+00:00"),  # yesterday, when summer time still held
        ("01:30:15", "2026-10-24T23:30:15+00:00"),
        ("2026-07-01", "2026-06-30T22:00:00+00:00"),
        ("2026-07-01 21:00", "2026-07-01T19:00:00+00:00"),
        ("2026-12-01T21:00:30", "2026-12-01T20:00:30+00:00"),
        ("2026-07-01T21:00+00:00", "2026-07-01T21:00:00+00:00"),
    ],
)
def test_times(text: str, expected: str) -> None:
    found = parse_time(text, NOW_NS, BERLIN)
    assert datetime.fromtimestamp(found / 1e9, UTC).isoformat() == expected
    assert found % 10**9 == 0


@pytest.mark.parametrize(
    "text", ["", "2", "yesterday", "25:00", "12:60", "2026-13-01", "2026-07-01 25:00", "-2h", "1e3h", "٣h"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time; write it as 2h"):
        parse_time(text, NOW_NS, BERLIN)
