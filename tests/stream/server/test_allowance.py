"""Token buckets under virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.stream.server.allowance import Bucket, Rate

RATE = Rate(burst=10.0, per_second=2.0)


def test_what_is_overspent_has_to_come_back() -> None:
    bucket = Bucket(RATE, 0.0)
    bucket.spend(0.0, 14.0)
    assert bucket.left(0.0) == -4.0
    assert not bucket.take(2.0)
    assert bucket.ready_at(2.0) == pytest.approx(2.5)
    assert bucket.take(2.5)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 12)), max_size=50))
def test_nobody_takes_more_than_the_burst_and_the_rate(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = Bucket(RATE, 0.0), 0.0, 0.0
    for wait_s, tokens in steps:
        now += wait_s
        if bucket.take(now, tokens):
            taken += tokens
        assert taken <= RATE.burst + RATE.per_second * now + 1e-6
        assert bucket.left(now) <= RATE.burst


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = Bucket(RATE, 5.0)
    assert bucket.take(5.0, 10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(4.0)
