"""Similarity by looking at every vector: for the open segment, for segments without an index, and as the judge of the index.

Rules of this file: memory is bounded by a block of vectors, whatever the size of the segment.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.vector_segment import Floats, SegmentTable, SpanFilter, VectorSegment

BLOCK = 8_192
"""Vectors that are read at once: 25 MB in float32."""


def similarities(segment: VectorSegment, table: SegmentTable, query_unit: Floats, mean: Floats) -> Floats:
    """Return the centred cosine of a vector with each of `table`; minus infinity for vectors that are not finite.

    `query_unit`: (size,), centred and of length 1. Vectors are read as float16, and summed in float32.
    """
    found = np.empty(len(table), np.float32)
    for first in range(0, len(table), BLOCK):
        units = centred_units(segment.vectors(table.ids[first : first + BLOCK]), mean)
        with np.errstate(invalid="ignore"):
            found[first : first + BLOCK] = units @ query_unit
    return np.where(np.isfinite(found), found, -np.inf).astype(np.float32)


def scan(
    segment: VectorSegment, query_unit: Floats, mean: Floats, allowed: SpanFilter, limit: int, table: SegmentTable | None = None
) -> tuple[SegmentTable, Floats]:
    """Return the `limit` most similar windows of a segment among those allowed, and their similarities, in no order.

    `table`: of the segment, if it is at hand.
    """
    table = segment.table() if table is None else table
    table = table.take(allowed(table)).in_order()
    scores = similarities(segment, table, query_unit, mean)
    rows = best_rows(scores, limit)
    return table.take(rows), scores[rows]


def best_rows(scores: Floats, limit: int) -> NDArray[np.int64]:
    """Return the rows of the `limit` largest finite scores, in no order."""
    if len(scores) <= limit:
        return np.flatnonzero(np.isfinite(scores))
    rows = np.argpartition(scores, -limit)[-limit:]
    return np.sort(rows[np.isfinite(scores[rows])])
