"""Which windows go into an index: few enough that neighbours share little sound, many enough that none is far from one.

With windows of 30 s every 5 s this is one in six.

Rules of this file: no I/O; pure functions over arrays.
"""

from __future__ import annotations

import numpy as np

from mertd.memory.similarity.vector_segment import Ints, SegmentTable


def indexed_rows(table: SegmentTable) -> Ints:
    """Return the rows to index, of a table ordered by stream and start.

    Time is divided into slots as long as a window, anew after every hole, and the first window in each slot is taken; so is the
    last before a hole, if it reaches more than half a window beyond. Every window then overlaps one that is taken.
    """
    count = len(table)
    if not count:
        return np.zeros(0, np.int64)
    start, end = table.start_ns, table.end_ns
    new_run = np.ones(count, bool)
    new_run[1:] = (table.streams[1:] != table.streams[:-1]) | (start[1:] >= end[:-1])
    run_first = np.flatnonzero(new_run)
    run = np.cumsum(new_run) - 1
    length = np.maximum(end - start, 1)[run_first][run]
    slot = (start - start[run_first][run]) // length
    taken = new_run.copy()
    taken[1:] |= slot[1:] != slot[:-1]
    last_taken = np.maximum.accumulate(np.where(taken, np.arange(count), 0))
    run_last = np.append(run_first[1:], count) - 1
    beyond = start[run_last] - start[last_taken[run_last]]
    taken[run_last[beyond > length[run_last] // 2]] = True
    return np.flatnonzero(taken)
