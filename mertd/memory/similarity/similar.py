"""The search over all segments: candidates from the indexes, exact similarity around them, moments, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mertd.errors import SpaceError
from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.exact_scan import best_rows, scan
from mertd.memory.similarity.moments import Moment, merge_moments
from mertd.memory.similarity.pair_sample import Calibration
from mertd.memory.similarity.proposals import nearest_stretches
from mertd.memory.similarity.refinement import Around, Hits, refine
from mertd.memory.similarity.vector_segment import Floats, SegmentTable, SpanFilter, VectorIndex, VectorSegment

CANDIDATES_PER_MOMENT = 6
"""Indexed windows whose surroundings are searched exactly, for each moment asked for."""

MIN_CANDIDATES = 64
"""Fewest of them."""

MAX_CANDIDATES = 4_096
"""Most of them. If a filter leaves too few moments of these, everything that it allows is compared."""

SCAN_ROWS = 4_096
"""Most windows that a filter may leave of a segment for an exact scan to be faster than its index."""

WINDOWS_PER_MOMENT = 64
"""Windows of a scan that are merged into moments, for each moment asked for."""


EVERYTHING = SpanFilter()
"""Filter that leaves nothing out."""


@dataclass(frozen=True)
class IndexedSegment:
    """A segment of the memory, with its index if it has one."""

    segment: VectorSegment
    index: VectorIndex | None = None


def find_similar(
    query: NDArray[np.floating],
    segments: Sequence[IndexedSegment],
    mean: Floats,
    calibration: Calibration,
    count: int = 10,
    allowed: SpanFilter = EVERYTHING,
) -> list[Moment]:
    """Return the `count` moments most similar to a vector, (size,), most similar first; fewer if there are no more.

    Raises `SpaceError` if the vector has another size than those of the memory, is not finite, or is the centre itself.
    """
    unit = _query_unit(query, mean)
    scanned, searched = _divide(segments, allowed)
    fixed = [Hits(*scan(part, unit, mean, allowed, WINDOWS_PER_MOMENT * count, table)) for part, table in scanned]
    limit = max(MIN_CANDIDATES, CANDIDATES_PER_MOMENT * count)
    while True:
        stretches, complete = nearest_stretches(query, [index for _, index in searched], limit, allowed)
        places = [
            Around(segment, index.table, *stretches.of(number))
            for number, (segment, index) in enumerate(searched)
            if (stretches.index == number).any()
        ]
        moments = merge_moments(*_joined([*fixed, *refine(places, unit, mean, allowed)]), count)
        if len(moments) >= count or complete or limit >= MAX_CANDIDATES:
            break
        limit *= 4
    if len(moments) < count and not complete and allowed.selects:
        fixed += [
            Hits(*scan(segment, unit, mean, allowed, WINDOWS_PER_MOMENT * count, index.table)) for segment, index in searched
        ]
        moments = merge_moments(*_joined(fixed), count)
    return [replace(moment, percentile=calibration.percentile(moment.similarity)) for moment in moments]


def _query_unit(query: NDArray[np.floating], mean: Floats) -> Floats:
    if query.shape != mean.shape:
        raise SpaceError(f"the vector has shape {query.shape}, those of the memory {mean.shape}; use one of the same space")
    if not np.isfinite(query).all():
        raise SpaceError("the vector has numbers that are not finite; nothing is similar to it")
    unit: Floats = centred_units(query[None], mean)[0]
    if not unit.any():
        raise SpaceError("the vector is the mean of the memory; from there it has no direction, and nothing is similar to it")
    return unit


def _divide(
    segments: Sequence[IndexedSegment], allowed: SpanFilter
) -> tuple[list[tuple[VectorSegment, SegmentTable | None]], list[tuple[VectorSegment, VectorIndex]]]:
    """Return the segments to scan, with their tables if these are at hand, and those to search by index.

    Segments of which a filter leaves nothing are in neither.
    """
    scanned: list[tuple[VectorSegment, SegmentTable | None]] = []
    searched: list[tuple[VectorSegment, VectorIndex]] = []
    for part in segments:
        index = part.index
        if index is None:
            scanned.append((part.segment, None))
        elif not allowed.selects or (left := int(allowed(index.table).sum())) > SCAN_ROWS:
            searched.append((part.segment, index))
        elif left:
            scanned.append((part.segment, index.table))
    return scanned, searched


def _joined(hits: Sequence[Hits]) -> tuple[SegmentTable, Floats]:
    """Return all windows with a similarity as one table."""
    useful = [(hit.table, best_rows(hit.scores, len(hit.scores)), hit.scores) for hit in hits]
    tables = [table.take(rows) for table, rows, _ in useful]
    names = ("ids", "start_ns", "end_ns", "streams")
    empty = SegmentTable(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32))
    joined = {name: np.concatenate([getattr(table, name) for table in [empty, *tables]]) for name in names}
    scores = np.concatenate([np.zeros(0, np.float32), *(scores[rows] for _, rows, scores in useful)])
    return SegmentTable(**joined), scores
