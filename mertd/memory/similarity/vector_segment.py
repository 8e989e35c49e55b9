"""What similarity needs from a stretch of the memory: when each vector was heard, and the vectors by their ids.

Rules of this file: no I/O. A segment holds vectors of one space.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SegmentTable:
    """When and on which stream each vector of a segment was heard; arrays of one length."""

    ids: Ints
    start_ns: Ints  # Unix time
    end_ns: Ints  # Unix time
    streams: NDArray[np.int32]  # number of the stream in the memory

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> SegmentTable:
        """Return the table of some rows."""
        return SegmentTable(self.ids[rows], self.start_ns[rows], self.end_ns[rows], self.streams[rows])

    def in_order(self) -> SegmentTable:
        """Return the table ordered by stream, then by start."""
        return self.take(np.lexsort((self.ids, self.start_ns, self.streams)))


class VectorSegment(Protocol):
    """A segment of the memory, as its store provides it."""

    @property
    def name(self) -> str:
        """Name without folder, under which its index is stored."""

    @property
    def digest(self) -> str:
        """Text that changes when the content of the segment does."""

    @property
    def size(self) -> int:
        """Numbers in a vector."""

    def table(self) -> SegmentTable:
        """Return when each vector was heard, in any order."""

    def vectors(self, ids: Ints) -> NDArray[np.floating]:
        """Return the vectors with these ids, (ids, size), in the order of `ids`."""


class VectorIndex(Protocol):
    """What finds the windows of a segment that are near a vector."""

    @property
    def table(self) -> SegmentTable:
        """When all windows of the segment were heard, ordered by stream and start."""

    def __len__(self) -> int:
        """Return how many windows may be proposed."""

    @property
    def view(self) -> Hashable:
        """Equal for indexes that see a question alike."""

    def seen(self, query: NDArray[np.floating]) -> NDArray[Any]:
        """Return a vector, (size,), as this index compares it."""

    def candidates(self, seen: NDArray[Any], limit: int) -> tuple[Ints, Floats]:
        """Return rows of the table near a vector, nearest first, and their approximate similarity. `seen`: of `seen`."""

    def runs_of(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the stretches that candidates stand for: first rows, last rows, and the place of the candidate in `rows`."""


@dataclass(frozen=True)
class SpanFilter:
    """Which windows may be found. Times are Unix nanoseconds."""

    streams: frozenset[int] | None = None  # None: all
    since_ns: int | None = None  # windows that start earlier are left out
    until_ns: int | None = None  # windows that end later are left out
    without: tuple[tuple[int, int], ...] = ()  # spans (start, end): windows that overlap one are left out

    @property
    def selects(self) -> bool:
        """Whether more is left out than single spans."""
        return self.streams is not None or self.since_ns is not None or self.until_ns is not None

    def __call__(self, table: SegmentTable) -> NDArray[np.bool_]:
        """Return for each row whether it may be found."""
        allowed = np.ones(len(table), bool)
        if self.streams is not None:
            allowed &= np.isin(table.streams, np.fromiter(self.streams, np.int32, len(self.streams)))
        if self.since_ns is not None:
            allowed &= table.start_ns >= self.since_ns
        if self.until_ns is not None:
            allowed &= table.end_ns <= self.until_ns
        for start, end in self.without:
            allowed &= (table.end_ns <= start) | (table.start_ns >= end)
        return allowed
