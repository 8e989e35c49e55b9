"""How long the model may take, before it is taken to hang although its heart beats."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mertd.daemon.embed_worker import BOUNDS, FIRST_BATCH_S, MIN_PATIENCE_S, PATIENCE_FACTOR, patience_s
from mertd.embed.process import HEARTBEAT_S


def test_patience_follows_experience() -> None:
    assert patience_s(deque(), 8) == FIRST_BATCH_S, "nothing is known yet: it may have to compile, on a slow machine"
    assert patience_s(deque([0.01, 0.02]), 1) == MIN_PATIENCE_S, "a fast one gets time for the machine to be busy"
    assert patience_s(deque([3.0, 5.0, 4.0]), 1) == 5 * PATIENCE_FACTOR
    assert patience_s(deque([3.0, 5.0, 4.0]), 8) == 8 * 5 * PATIENCE_FACTOR


@given(st.lists(st.floats(0.001, 1_000), min_size=1, max_size=32), st.integers(1, 8))
def test_a_batch_that_takes_as_long_as_any_before_is_never_a_hang(took: list[float], windows: int) -> None:
    assert patience_s(deque(took), windows) >= max(MIN_PATIENCE_S, 5 * max(took) * windows)


def test_hearts_beat_often_enough_for_the_bounds() -> None:
    assert 2 * HEARTBEAT_S < BOUNDS.suspect_s < BOUNDS.silent_s < BOUNDS.opening_s < BOUNDS.ready_s
