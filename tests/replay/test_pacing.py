from __future__ import annotations

import pytest

from mertd.replay.pacing import Pace, Timetable

S = 1_000_000_000


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (Pace(), [100.0, 105.0, 105.0, 3_705.0]),
        (Pace(10.0), [100.0, 100.5, 100.5, 460.5]),
        (Pace(float("inf")), [100.0] * 4),
        (Pace(0.5, longest_pause_s=12.0), [100.0, 110.0, 110.0, 122.0]),
    ],
)
def test_pauses_are_divided_and_the_longest_cut(pace: Pace, expected: list[float]) -> None:
    timetable = Timetable(pace)
    assert [timetable.due(seconds * S, 100.0) for seconds in (50, 55, 55, 3_655)] == expected


def test_a_little_lateness_is_made_up_for_and_much_is_not() -> None:
    timetable = Timetable(Pace())
    assert timetable.due(0, 100.0) == 100.0
    assert timetable.due(2 * S, 102.5) == 102.0, "the whole must not take longer because each message is a little late"
    assert timetable.due(4 * S, 110.0) == 110.0
    assert timetable.due(6 * S, 110.0) == 112.0, "and not come in a burst because one was very late"
