from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory.similarity.array_segment import steady_table
from mertd.memory.similarity.thinning import indexed_rows
from mertd.memory.similarity.vector_segment import SegmentTable


def test_one_window_in_six() -> None:
    assert indexed_rows(steady_table(60)).tolist() == [*range(0, 60, 6), 59]
    assert indexed_rows(steady_table(0)).tolist() == []
    assert indexed_rows(steady_table(5, hop_ns=30_000_000_000)).tolist() == [0, 1, 2, 3, 4], "no overlap: all of them"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50)), max_size=60), st.integers(1, 12))
def test_every_window_overlaps_an_indexed_one(steps: list[tuple[int, int]], length: int) -> None:
    """Streams in any mixture, hops of any length, holes."""
    clocks = [0, 0, 0]
    rows = []
    for stream, step in steps:
        clocks[stream] += step if step > 30 else step % 5 + 1
        rows.append((stream, clocks[stream]))
    streams = np.array([row[0] for row in rows], np.int32)
    start = np.array([row[1] for row in rows], np.int64)
    table = SegmentTable(np.arange(len(rows), dtype=np.int64), start, start + length, streams).in_order()
    taken = indexed_rows(table)
    for row in range(len(table)):
        same = taken[table.streams[taken] == table.streams[row]]
        assert (np.abs(table.start_ns[same] - table.start_ns[row]) < length).any()
    assert len(np.unique(taken)) == len(taken)
