"""Several closed segments with one index: asking one large index takes less time than asking many small ones.

Rules of this file: no I/O of its own; it asks the segments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.vector_segment import Ints, SegmentTable, VectorSegment

JOINED = 8
"""Segments that share an index."""

ID_BITS = 40
"""Bits of an id that the segment gave; the number of the segment stands above them."""


@dataclass(frozen=True)
class JoinedSegments:
    """Segments of one space, with ids that also say the segment."""

    members: tuple[VectorSegment, ...]

    @property
    def name(self) -> str:
        """The names of the first and the last."""
        return f"{self.members[0].name}-{self.members[-1].name}"

    @property
    def digest(self) -> str:
        """Changes when the content of one of them does."""
        return hashlib.sha256("\n".join(member.digest for member in self.members).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return self.members[0].size

    def table(self) -> SegmentTable:
        """Return when each vector was heard."""
        tables = [member.table() for member in self.members]
        return SegmentTable(
            np.concatenate([table.ids | (number << ID_BITS) for number, table in enumerate(tables)]),
            np.concatenate([table.start_ns for table in tables]),
            np.concatenate([table.end_ns for table in tables]),
            np.concatenate([table.streams for table in tables]),
        )

    def vectors(self, ids: Ints) -> NDArray[np.floating]:
        """Return the vectors with these ids, (ids, size), in the order of `ids`."""
        number = ids >> ID_BITS
        asked = [(int(n), np.flatnonzero(number == n)) for n in np.unique(number)]
        parts = [(rows, self.members[n].vectors(ids[rows] & ((1 << ID_BITS) - 1))) for n, rows in asked]
        if len(parts) == 1:
            return parts[0][1]
        found = np.empty((len(ids), self.size), np.result_type(np.float16, *(part.dtype for _, part in parts)))
        for rows, part in parts:
            found[rows] = part
        return found

    def member(self, joined_id: int) -> tuple[VectorSegment, int]:
        """Return the segment of an id, and the id within it."""
        return self.members[joined_id >> ID_BITS], joined_id & ((1 << ID_BITS) - 1)


def join(closed: Sequence[VectorSegment], each: int = JOINED) -> list[VectorSegment]:
    """Return what to index, for closed segments in order: every `each` of them together, and those left over on their own."""
    whole = len(closed) - len(closed) % each
    groups = [JoinedSegments(tuple(closed[at : at + each])) for at in range(0, whole, each)]
    return [*groups, *closed[whole:]]
