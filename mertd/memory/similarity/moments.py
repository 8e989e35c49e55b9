"""Overlapping windows of one moment become one answer.

Rules of this file: no I/O; pure functions over arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mertd.memory.similarity.vector_segment import Floats, SegmentTable

EXTENDING = 0.7
"""Share of a moment's similarity that a window needs to extend it."""

BLOCK = 64
"""Windows that are looked at together; few of a long table are needed."""


@dataclass(frozen=True)
class Moment:
    """A stretch of one stream that is similar to what was asked for. Times are Unix nanoseconds."""

    stream: int  # number of the stream in the memory
    start_ns: int
    end_ns: int
    best_id: int  # of its most similar window
    best_start_ns: int
    best_end_ns: int
    similarity: float  # of its most similar window: the centred cosine
    percentile: float | None = None  # percentage of random pairs that are less similar; None: too few pairs to say


def merge_moments(table: SegmentTable, scores: Floats, count: int) -> list[Moment]:
    """Return the `count` most similar moments, most similar first, from windows and their similarities in any order.

    Windows are taken from the most similar down. One that overlaps a moment of its stream belongs to it; if it is nearly as
    similar, it also extends the moment, and joins two that it overlaps. The first window that would begin moment number
    `count + 1` ends the search.
    """
    order = np.lexsort((table.ids, table.start_ns, table.streams, -scores))
    columns = (table.streams, table.start_ns, table.end_ns, table.ids, scores)
    found: list[Moment] = []
    for first in range(0, len(order), BLOCK):
        rows = order[first : first + BLOCK]
        for stream, start, end, best, similarity in zip(*(column[rows].tolist() for column in columns), strict=True):
            touched = [m for m in found if m.stream == stream and start < m.end_ns and m.start_ns < end]
            if touched and similarity < EXTENDING * touched[0].similarity:
                continue
            if touched:
                _extend(found, touched, start, end)
            elif len(found) < count:
                found.append(Moment(stream, start, end, best, start, end, similarity))
            else:
                return found
    return found


def _extend(found: list[Moment], touched: list[Moment], start: int, end: int) -> None:
    """Make one moment of those that a window touches, the first of which is the most similar."""
    best = touched[0]
    if len(touched) == 1 and best.start_ns <= start and end <= best.end_ns:
        return
    start = min(start, *(moment.start_ns for moment in touched))
    end = max(end, *(moment.end_ns for moment in touched))
    found[found.index(best)] = replace(best, start_ns=start, end_ns=end)
    for other in touched[1:]:
        found.remove(other)
