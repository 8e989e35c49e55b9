from __future__ import annotations

from pathlib import Path

import numpy as np

from memory.similarity.array_segment import ArraySegment, music, steady_table
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.joined_segments import JoinedSegments, join
from mertd.memory.similarity.pair_sample import Calibration
from mertd.memory.similarity.segment_index import ensure_index
from mertd.memory.similarity.similar import IndexedSegment, find_similar

VECTORS = music(12)


def parts(count: int = 4) -> list[ArraySegment]:
    """Segments whose ids begin anew, as in files that know nothing of each other."""
    each = len(VECTORS) // count
    made = []
    for number in range(count):
        part = ArraySegment(VECTORS[number * each : (number + 1) * each], f"s{number}")
        times = steady_table(each, number * each)
        part._table = type(times)(np.arange(each, dtype=np.int64), times.start_ns, times.end_ns, times.streams)
        made.append(part)
    return made


def test_it_is_like_one_segment() -> None:
    joined = JoinedSegments(tuple(parts()))
    table = joined.table()
    assert len(np.unique(table.ids)) == len(VECTORS)
    assert (joined.vectors(table.ids) == VECTORS).all()
    shuffled = np.random.default_rng(0).permutation(len(VECTORS))
    assert (joined.vectors(table.ids[shuffled]) == VECTORS[shuffled]).all()
    segment, own = joined.member(int(table.ids[130]))
    assert (segment.name, own) == ("s1", 10)


def test_its_digest_is_that_of_all() -> None:
    some = parts()
    before = JoinedSegments(tuple(some)).digest
    some[2].digest = "other"
    assert JoinedSegments(tuple(some)).digest != before


def test_what_is_left_over_stands_alone() -> None:
    some = parts(5)
    assert [segment.name for segment in join(some, 2)] == ["s0-s1", "s2-s3", "s4"]
    assert join(some[:1], 2) == some[:1]


def test_moments_are_found_across_the_border(tmp_path: Path) -> None:
    centre = Centre(64)
    centre.add(VECTORS)
    none = Calibration(np.zeros(0, np.float32), 0)
    joined = JoinedSegments(tuple(parts()))
    index = ensure_index(joined, tmp_path, centre)
    for row in (0, 119, 120, 121, 300, len(VECTORS) - 1):
        found = find_similar(VECTORS[row], [IndexedSegment(joined, index)], centre.mean, none, 1)[0]
        segment, own = joined.member(found.best_id)
        assert (segment.vectors(np.array([own]))[0] == VECTORS[row]).all()
