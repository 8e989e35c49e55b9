"""Overlapping windows of one moment become one answer.

Rules of this file: no I/O; pure functions over arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    found: list[_Growing] = []
    for first in range(0, len(order), BLOCK):
        rows = order[first : first + BLOCK]
        for window in zip(*(column[rows].tolist() for column in columns), strict=True):
            stream, start, end, _, similarity = window
            touched = [m for m in found if start < m.end_ns and m.start_ns < end and m.best[0] == stream]
            if touched and similarity < EXTENDING * touched[0].best[4]:
                continue
            if touched:
                _extend(found, touched, start, end)
            elif len(found) < count:
                found.append(_Growing(window, start, end))
            else:
                return [moment.done() for moment in found]
    return [moment.done() for moment in found]


class _Growing:
    """A moment to which windows are still added. `best`: stream, start, end, id and similarity of its most similar one."""

    __slots__ = ("best", "end_ns", "start_ns")

    def __init__(self, best: tuple[int, int, int, int, float], start_ns: int, end_ns: int) -> None:
        self.best = best
        self.start_ns = start_ns
        self.end_ns = end_ns

    def done(self) -> Moment:
        stream, start, end, best_id, similarity = self.best
        return Moment(stream, self.start_ns, self.end_ns, best_id, start, end, similarity)


def _extend(found: list[_Growing], touched: list[_Growing], start: int, end: int) -> None:
    """Make one moment of those that a window touches, the first of which is the most similar."""
    best = touched[0]
    best.start_ns = min([start, *(moment.start_ns for moment in touched)])
    best.end_ns = max([end, *(moment.end_ns for moment in touched)])
    for other in touched[1:]:
        found.remove(other)
