"""The search over all segments: candidates from the indexes, exact similarity around them, moments, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mertd.errors import SpaceError
from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.exact_scan import best_rows, scan, similarities
from mertd.memory.similarity.moments import Moment, merge_moments
from mertd.memory.similarity.pair_sample import Calibration
from mertd.memory.similarity.segment_index import SegmentIndex
from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable, SpanFilter, VectorSegment

CANDIDATES_PER_MOMENT = 10
"""Indexed windows whose surroundings are searched exactly, for each moment asked for."""

MIN_CANDIDATES = 96
"""Fewest of them."""

MAX_CANDIDATES = 4_096
"""Most of them, however many moments are still missing."""

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
    index: SegmentIndex | None = None


@dataclass(frozen=True)
class _Hits:
    """Windows and their exact similarities."""

    table: SegmentTable
    scores: Floats


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
    fixed = [_Hits(*scan(part.segment, unit, mean, allowed, WINDOWS_PER_MOMENT * count)) for part in scanned]
    limit = max(MIN_CANDIDATES, CANDIDATES_PER_MOMENT * count)
    while True:
        refined, complete = _search(query, unit, searched, mean, allowed, limit)
        moments = merge_moments(*_joined([*fixed, *refined]), count)
        if len(moments) >= count or complete or limit >= MAX_CANDIDATES:
            break
        limit *= 4
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
) -> tuple[list[IndexedSegment], list[tuple[IndexedSegment, SegmentIndex]]]:
    """Return the segments to scan, and those to search by index."""
    scanned: list[IndexedSegment] = []
    searched: list[tuple[IndexedSegment, SegmentIndex]] = []
    filtered = allowed != SpanFilter(without=allowed.without)
    for part in segments:
        index = part.index
        if index is None or (filtered and int(allowed(index.table).sum()) <= SCAN_ROWS):
            scanned.append(part)
        else:
            searched.append((part, index))
    return scanned, searched


def _search(
    query: NDArray[np.floating],
    unit: Floats,
    searched: Sequence[tuple[IndexedSegment, SegmentIndex]],
    mean: Floats,
    allowed: SpanFilter,
    limit: int,
) -> tuple[list[_Hits], bool]:
    """Return the exact similarities around the best `limit` candidates, and whether there are no other candidates."""
    proposals = [index.candidates(query, limit) for _, index in searched]
    complete = all(len(rows) >= len(index) for (rows, _), (_, index) in zip(proposals, searched, strict=True))
    firsts: list[Ints] = []
    lasts: list[Ints] = []
    scores: list[Floats] = []
    for (rows, approximate), (_, index) in zip(proposals, searched, strict=True):
        first, last, place = index.runs_of(rows)
        kept = allowed(index.table.take(first)) | allowed(index.table.take(last))
        firsts.append(first[kept])
        lasts.append(last[kept])
        scores.append(approximate[place][kept])
    everything = np.concatenate(scores) if scores else np.zeros(0, np.float32)
    complete &= len(everything) <= limit
    least = np.partition(everything, -limit)[-limit] if len(everything) > limit else -np.inf
    refined: list[_Hits] = []
    for (part, index), first, last, approximate in zip(searched, firsts, lasts, scores, strict=True):
        near = approximate >= least
        refined += _refine(part.segment, index.table, first[near], last[near], unit, mean, allowed)
    return refined, complete


def _refine(
    segment: VectorSegment, whole: SegmentTable, first: Ints, last: Ints, unit: Floats, mean: Floats, allowed: SpanFilter
) -> list[_Hits]:
    """Return the exact similarities around the ends of stretches, and each stretch of one sound as a window of its own."""
    table = whole.take(surroundings(whole, np.union1d(first, last)))
    table = table.take(allowed(table))
    if not len(table):
        return []
    scores = similarities(segment, table, unit, mean)
    found = [_Hits(table, scores)]
    long = first < last
    if long.any():
        score_of = dict(zip(table.ids.tolist(), scores.tolist(), strict=True))
        begin, end = whole.take(first[long]), whole.take(last[long])
        stretch = SegmentTable(begin.ids, begin.start_ns, end.end_ns, begin.streams)
        both = zip(begin.ids.tolist(), end.ids.tolist(), strict=True)
        lesser = np.array([min(score_of.get(a, -np.inf), score_of.get(b, -np.inf)) for a, b in both], np.float32)
        usable = allowed(stretch) & np.isfinite(lesser)
        # A little less than its windows, so that one of these is the best of the moment.
        found.append(_Hits(stretch.take(usable), np.nextafter(lesser[usable], np.float32(-2))))
    return found


def surroundings(table: SegmentTable, rows: Ints) -> Ints:
    """Return the rows of all windows that overlap one of `rows`, in order. `table` is ordered by stream and start."""
    found: list[Ints] = []
    for row in np.sort(rows):
        start, end = int(table.start_ns[row]), int(table.end_ns[row])
        stream = table.streams[row]
        first = last = int(row)
        while first > 0 and table.streams[first - 1] == stream and table.end_ns[first - 1] > start:
            first -= 1
        while last + 1 < len(table) and table.streams[last + 1] == stream and table.start_ns[last + 1] < end:
            last += 1
        found.append(np.arange(first, last + 1))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _joined(hits: Sequence[_Hits]) -> tuple[SegmentTable, Floats]:
    """Return all windows with a similarity as one table."""
    useful = [(hit.table, best_rows(hit.scores, len(hit.scores)), hit.scores) for hit in hits]
    tables = [table.take(rows) for table, rows, _ in useful]
    names = ("ids", "start_ns", "end_ns", "streams")
    empty = SegmentTable(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32))
    joined = {name: np.concatenate([getattr(table, name) for table in [empty, *tables]]) for name in names}
    scores = np.concatenate([np.zeros(0, np.float32), *(scores[rows] for _, rows, scores in useful)])
    return SegmentTable(**joined), scores
