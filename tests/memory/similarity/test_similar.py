"""The search through indexes finds what looking at every vector finds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from memory.similarity.array_segment import HOP_NS, START_NS, WINDOW_NS, ArraySegment, music, steady_table
from mertd.errors import SpaceError
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.pair_sample import Calibration, PairSample
from mertd.memory.similarity.refinement import surroundings
from mertd.memory.similarity.segment_index import ensure_index
from mertd.memory.similarity.similar import IndexedSegment, find_similar
from mertd.memory.similarity.vector_segment import SegmentTable, SpanFilter

NO_CALIBRATION = Calibration(np.zeros(0, np.float32), 0)


class Memory:
    """Two closed segments and an open one, over the same music."""

    def __init__(self, folder: Path, pieces: int, size: int = 64) -> None:
        self.vectors = music(pieces, size)
        self.centre = Centre(size)
        self.centre.add(self.vectors)
        cuts = [0, len(self.vectors) // 2, len(self.vectors) * 9 // 10, len(self.vectors)]
        self.segments = [ArraySegment(self.vectors[a:b], f"s{a}", first=a) for a, b in pairwise(cuts)]
        closed = [IndexedSegment(s, ensure_index(s, folder, self.centre)) for s in self.segments[:2]]
        self.indexed = [*closed, IndexedSegment(self.segments[2])]
        self.exact = [IndexedSegment(s) for s in self.segments]

    def recall(self, queries: np.ndarray, count: int = 10) -> float:
        found = total = 0
        for row in queries:
            without = SpanFilter(without=((START_NS + row * HOP_NS, START_NS + row * HOP_NS + WINDOW_NS),))
            asked = self.vectors[row].astype(np.float32)
            mine = find_similar(asked, self.indexed, self.centre.mean, NO_CALIBRATION, count, without)
            for moment in find_similar(asked, self.exact, self.centre.mean, NO_CALIBRATION, count, without):
                total += 1
                found += any(m.start_ns < moment.end_ns and moment.start_ns < m.end_ns for m in mine)
        return found / total


def test_it_finds_what_an_exact_search_finds(tmp_path: Path) -> None:
    memory = Memory(tmp_path, 600)
    queries = np.random.default_rng(0).integers(0, len(memory.vectors), 20)
    assert memory.recall(queries) >= 0.97


def test_moments_come_with_their_percentile(tmp_path: Path) -> None:
    memory = Memory(tmp_path, 100)
    sample = PairSample(64)
    table = steady_table(len(memory.vectors))
    sample.add(table.start_ns, table.streams, memory.vectors)
    calibration = sample.calibrate(memory.centre.mean)
    found = find_similar(memory.vectors[700], memory.indexed, memory.centre.mean, calibration, 3)
    assert found[0].best_id == 700
    assert found[0].similarity == pytest.approx(1, abs=1e-3)
    assert [m.percentile for m in found] == [calibration.percentile(m.similarity) for m in found]


def test_a_filter_holds_also_where_the_index_knows_nothing_of_it(tmp_path: Path) -> None:
    memory = Memory(tmp_path, 150)
    since, until = START_NS + 2_000 * HOP_NS, START_NS + 2_100 * HOP_NS
    allowed = SpanFilter(since_ns=since, until_ns=until)
    found = find_similar(memory.vectors[0], memory.indexed, memory.centre.mean, NO_CALIBRATION, 5, allowed)
    assert found
    assert all(since <= m.start_ns and m.end_ns <= until for m in found)
    exact = find_similar(memory.vectors[0], memory.exact, memory.centre.mean, NO_CALIBRATION, 5, allowed)
    assert found == exact
    nowhere = SpanFilter(streams=frozenset({7}))
    assert find_similar(memory.vectors[0], memory.indexed, memory.centre.mean, NO_CALIBRATION, 5, nowhere) == []


def test_hours_of_one_sound_do_not_hide_the_rest(tmp_path: Path) -> None:
    """A constant sound fills the nearest candidates with windows of one moment; the search must go on behind them."""
    vectors = music(40)
    vectors[:1_200] = vectors[0]
    vectors[1_400:1_406] = vectors[0] + np.float16(0.01)
    segment = ArraySegment(vectors)
    centre = Centre(64)
    centre.add(vectors)
    index = ensure_index(segment, tmp_path, centre)
    found = find_similar(vectors[5], [IndexedSegment(segment, index)], centre.mean, NO_CALIBRATION, 2)
    assert len(found) == 2
    assert any(1_395 <= m.best_id < 1_410 for m in found)
    drone = min(found, key=lambda m: m.start_ns)
    assert drone.end_ns - drone.start_ns > 0.95 * 1_200 * HOP_NS, "one moment, as long as the sound"
    before = SpanFilter(until_ns=START_NS + 600 * HOP_NS)
    inside = find_similar(vectors[5], [IndexedSegment(segment, index)], centre.mean, NO_CALIBRATION, 1, before)
    assert inside[0].end_ns <= START_NS + 600 * HOP_NS


def test_a_jingle_is_found_every_time_it_was_played(tmp_path: Path) -> None:
    vectors = music(200)
    jingle = music(1, seed=9)[:6]
    played = np.arange(6, 7_200, 120)
    for row in played:
        vectors[row : row + 6] = jingle
    segment = ArraySegment(vectors)
    centre = Centre(64)
    centre.add(vectors)
    index = ensure_index(segment, tmp_path, centre)
    assert len(index) < len(vectors) // 6 - 50, "one of them stands for all"
    found = find_similar(jingle[0], [IndexedSegment(segment, index)], centre.mean, NO_CALIBRATION, 40)
    assert len({m.best_id for m in found} & set(played.tolist())) == 40


def test_equal_vectors_are_found_however_many_there_are(tmp_path: Path) -> None:
    """A graph of vectors that are all equal has no directions to go."""
    vectors = np.concatenate([np.tile(music(1)[:1], (3_000, 1)), music(10, seed=2)])
    segment = ArraySegment(vectors)
    centre = Centre(64)
    centre.add(vectors)
    index = ensure_index(segment, tmp_path, centre)
    for row in (0, 3_100, 3_250):
        found = find_similar(vectors[row], [IndexedSegment(segment, index)], centre.mean, NO_CALIBRATION, 1)
        assert found[0].similarity == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(64, np.nan), np.full(64, np.inf)])
def test_a_query_that_cannot_be_compared_is_refused(tmp_path: Path, bad: np.ndarray) -> None:
    memory = Memory(tmp_path, 4)
    with pytest.raises(SpaceError):
        find_similar(bad, memory.indexed, memory.centre.mean, NO_CALIBRATION)
    with pytest.raises(SpaceError, match="mean"):
        find_similar(memory.centre.mean, memory.indexed, memory.centre.mean, NO_CALIBRATION)


def test_a_memory_without_vectors_has_no_moments() -> None:
    empty = ArraySegment(np.zeros((0, 64), np.float16))
    assert find_similar(np.ones(64), [IndexedSegment(empty)], np.zeros(64, np.float32), NO_CALIBRATION) == []
    assert find_similar(np.ones(64), [], np.zeros(64, np.float32), NO_CALIBRATION) == []


def test_a_stored_vector_that_is_not_finite_is_never_found(tmp_path: Path) -> None:
    vectors = music(10)
    vectors[12] = np.nan
    vectors[20, 0] = np.inf
    segment = ArraySegment(vectors)
    centre = Centre(64)
    centre.add(vectors)
    parts = [IndexedSegment(segment, ensure_index(segment, tmp_path, centre))]
    found = find_similar(vectors[13], parts, centre.mean, NO_CALIBRATION, 3)
    assert found[0].best_id == 13
    assert not {m.best_id for m in found} & {12, 20}


def test_the_surroundings_of_a_window_are_all_that_overlap_it() -> None:
    table = steady_table(20)
    assert surroundings(table, np.array([10])).tolist() == list(range(5, 16))
    assert surroundings(table, np.array([0, 3])).tolist() == list(range(9))
    two = SegmentTable(table.ids, table.start_ns, table.end_ns, np.repeat([0, 1], 10).astype(np.int32))
    assert surroundings(two, np.array([9])).tolist() == list(range(4, 10))


def test_little_is_read_of_a_closed_segment(tmp_path: Path) -> None:
    memory = Memory(tmp_path, 200)
    for segment in memory.segments:
        segment.reads = 0
    find_similar(memory.vectors[100], memory.indexed, memory.centre.mean, NO_CALIBRATION, 5)
    closed = sum(segment.reads for segment in memory.segments[:2])
    assert 0 < closed <= 11 * 96
