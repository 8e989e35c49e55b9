"""Waits double up to a limit, and start over once something has worked."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.daemon.backoff import Backoff


def test_waits_double_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 30)
    assert [backoff.next() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.failures == 9


def test_success_starts_over() -> None:
    backoff = Backoff(1, 100)
    assert [backoff.next() for _ in range(3)] == [1, 2, 4]
    backoff.worked()
    assert backoff.failures == 0
    assert [backoff.next() for _ in range(2)] == [1, 2]


@given(first=st.floats(0.01, 10), most=st.floats(10, 100), failures=st.integers(1, 300))
def test_waits_never_fall_and_never_pass_the_limit(first: float, most: float, failures: int) -> None:
    backoff = Backoff(first, most)
    waits = [backoff.next() for _ in range(failures)]
    assert waits[0] == first
    assert all(a <= b <= most for a, b in pairwise(waits))


def test_a_year_of_failures_overflows_nothing() -> None:
    backoff = Backoff()
    backoff.failures = 10**7
    assert backoff.next() == pytest.approx(30)
