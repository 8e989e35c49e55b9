"""The exact similarities of all windows around what the indexes propose.

Rules of this file: memory is bounded by a block of vectors and the windows of one segment that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable, SpanFilter, VectorSegment

BLOCK = 8_192
"""Vectors that are compared at once; segments with few are compared together."""


@dataclass(frozen=True)
class Hits:
    """Windows and their exact similarities."""

    table: SegmentTable
    scores: Floats


@dataclass(frozen=True)
class Around:
    """What is looked at in one segment: the windows around the ends of stretches."""

    segment: VectorSegment
    whole: SegmentTable  # of the segment
    first: Ints  # rows of the stretches
    last: Ints


def refine(places: Sequence[Around], unit: Floats, mean: Floats, allowed: SpanFilter) -> list[Hits]:
    """Return the exact similarities around the ends of stretches, and each stretch of one sound as a window of its own."""
    found: list[Hits] = []
    waiting: list[tuple[Around, SegmentTable]] = []
    count = 0
    for place in places:
        table = place.whole.take(surroundings(place.whole, np.union1d(place.first, place.last)))
        table = table.take(allowed(table))
        if not len(table):
            continue
        waiting.append((place, table))
        count += len(table)
        if count >= BLOCK:
            found += _compare(waiting, unit, mean, allowed)
            waiting, count = [], 0
    return found + _compare(waiting, unit, mean, allowed)


def _compare(waiting: Sequence[tuple[Around, SegmentTable]], unit: Floats, mean: Floats, allowed: SpanFilter) -> list[Hits]:
    if not waiting:
        return []
    vectors = np.concatenate([place.segment.vectors(table.ids) for place, table in waiting])
    with np.errstate(invalid="ignore"):
        exact = np.einsum("ij,j->i", centred_units(vectors, mean), unit)
    exact = np.where(np.isfinite(exact), exact, -np.inf).astype(np.float32)
    ends = np.cumsum([len(table) for _, table in waiting])[:-1]
    found: list[Hits] = []
    for (place, table), scores in zip(waiting, np.split(exact, ends), strict=True):
        found.append(Hits(table, scores))
        if (place.first < place.last).any():
            found.append(_stretches(place, table, scores, allowed))
    return found


def _stretches(place: Around, table: SegmentTable, scores: Floats, allowed: SpanFilter) -> Hits:
    """Return the stretches of more than one window, each as similar as the lesser of its ends."""
    long = place.first < place.last
    score_of = dict(zip(table.ids.tolist(), scores.tolist(), strict=True))
    begin, end = place.whole.take(place.first[long]), place.whole.take(place.last[long])
    stretch = SegmentTable(begin.ids, begin.start_ns, end.end_ns, begin.streams)
    both = zip(begin.ids.tolist(), end.ids.tolist(), strict=True)
    lesser = np.array([min(score_of.get(a, -np.inf), score_of.get(b, -np.inf)) for a, b in both], np.float32)
    usable = allowed(stretch) & np.isfinite(lesser)
    # A little less than its windows, so that one of these is the best of the moment.
    return Hits(stretch.take(usable), np.nextafter(lesser[usable], np.float32(-2)))


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
