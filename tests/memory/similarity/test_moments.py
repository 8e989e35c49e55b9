from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.similarity.array_segment import HOP_NS, START_NS, WINDOW_NS, steady_table
from mertd.memory.similarity.moments import merge_moments
from mertd.memory.similarity.vector_segment import SegmentTable


def scores_of(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_overlapping_windows_are_one_moment() -> None:
    found = merge_moments(steady_table(12), scores_of(0.1, 0.5, 0.9, 0.8, 0.1, 0, 0, 0, 0, 0, 0.2, 0.7), 2)
    assert [(m.best_id, round(m.similarity, 1)) for m in found] == [(2, 0.9), (11, 0.7)]
    first = found[0]
    assert (first.start_ns, first.end_ns) == (START_NS + 2 * HOP_NS, START_NS + 3 * HOP_NS + WINDOW_NS)
    assert (first.best_start_ns, first.best_end_ns) == (START_NS + 2 * HOP_NS, START_NS + 2 * HOP_NS + WINDOW_NS)


def test_streams_are_kept_apart() -> None:
    table = SegmentTable(np.arange(2), np.zeros(2, np.int64), np.full(2, 10), np.array([0, 1], np.int32))
    assert len(merge_moments(table, scores_of(1, 0.9), 5)) == 2


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=80), st.integers(1, 6), st.randoms())
def test_moments_are_apart_and_in_order(values: list[int], count: int, random: object) -> None:
    scores = np.array(values, np.float32) / 100
    table = steady_table(len(values))
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    rows = np.array(order)
    found = merge_moments(table, scores, count)
    assert found == merge_moments(table.take(rows), scores[rows], count), "the order of the windows does not matter"
    assert 1 <= len(found) <= count
    assert found[0].similarity == scores.max()
    assert [m.similarity for m in found] == sorted((m.similarity for m in found), reverse=True)
    by_time = sorted(found, key=lambda m: m.start_ns)
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(by_time))
    for moment in found:
        assert moment.similarity == scores[moment.best_id]
        assert moment.start_ns <= moment.best_start_ns < moment.best_end_ns <= moment.end_ns
