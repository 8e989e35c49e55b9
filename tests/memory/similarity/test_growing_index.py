"""The windows of a segment that is being written are found as those of an index are, whatever comes in which order."""

from __future__ import annotations

import numpy as np
import pytest

from memory.similarity.array_segment import music, steady_table
from mertd.memory.similarity import growing_index
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.growing_index import GrowingIndex
from mertd.memory.similarity.vector_segment import SegmentTable

VECTORS = music(20).astype(np.float32)
MEAN = VECTORS.mean(axis=0)
SPREAD = float(np.sqrt(np.square(VECTORS - MEAN).sum(axis=1).mean()))


@pytest.fixture(params=[100_000, 64], ids=["all recent", "mostly old"])
def _recent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_index, "RECENT", request.param)
    monkeypatch.setattr(growing_index, "CHUNK", 16)


def ask(index: GrowingIndex, vector: np.ndarray, limit: int) -> tuple[list[int], np.ndarray]:
    rows, scores = index.candidates(index.seen(vector), limit)
    return index.table.ids[rows].tolist(), scores


def cosines(vector: np.ndarray) -> np.ndarray:
    moved = VECTORS - MEAN
    return moved @ (vector - MEAN) / np.linalg.norm(moved, axis=1) / np.linalg.norm(vector - MEAN)


@pytest.mark.usefixtures("_recent")
def test_what_is_near_is_proposed_with_its_similarity() -> None:
    index = GrowingIndex(64)
    table = steady_table(len(VECTORS))
    for first in range(0, len(VECTORS), 50):
        index.add(table.take(np.arange(first, min(first + 50, len(VECTORS)))), VECTORS[first : first + 50], SPREAD)
    index.see_from(MEAN)
    assert len(index) <= -(-len(VECTORS) // 6)
    for row in (3, 250, 600, len(VECTORS) - 1):
        ids, scores = ask(index, VECTORS[row], 5)
        assert min(abs(i - row) for i in ids) < 6, "a window that overlaps it is proposed"
        assert scores == pytest.approx(cosines(VECTORS[row])[ids], abs=1e-4)
        assert (np.diff(scores) <= 0).all()
    everything, _ = ask(index, VECTORS[0], 10_000)
    assert len(everything) == len(index)


def test_of_the_newest_each_is_proposed_itself() -> None:
    index = GrowingIndex(64)
    index.add(steady_table(len(VECTORS)), VECTORS, SPREAD)
    index.see_from(MEAN)
    for row in range(0, len(VECTORS), 37):
        assert ask(index, VECTORS[row], 1)[0] == [row]


@pytest.mark.usefixtures("_recent")
def test_streams_that_alternate_and_a_clock_that_steps_back_keep_their_places() -> None:
    half = len(VECTORS) // 2
    one, other = steady_table(half), steady_table(half, first=half, stream=1)
    order = np.arange(len(VECTORS)).reshape(2, half).T.ravel()
    both = SegmentTable(
        *(np.concatenate([getattr(one, n), getattr(other, n)]) for n in ("ids", "start_ns", "end_ns", "streams"))
    )
    both.start_ns[300:half] -= 3_600 * 10**9
    both.end_ns[300:half] -= 3_600 * 10**9
    index = GrowingIndex(64)
    index.add(both.take(order), VECTORS[order], SPREAD)
    index.see_from(MEAN)
    assert (index.table.ids == both.in_order().ids).all()
    for row in (10, 310, half + 5):
        ids, _ = ask(index, VECTORS[row], 3)
        assert min(abs(i - row) for i in ids) < 6


@pytest.mark.usefixtures("_recent")
def test_a_tone_that_lasts_is_one_stretch_once_it_is_old() -> None:
    tone = np.tile(VECTORS[:1], (600, 1))
    index = GrowingIndex(64)
    index.add(steady_table(600), tone, 0.0)
    index.add(steady_table(200, first=600), VECTORS[:200] + 1, SPREAD)
    index.see_from(MEAN)
    rows, _ = index.candidates(index.seen(VECTORS[0]), 200)
    first, last, place = index.runs_of(rows)
    assert (first <= last).all()
    assert (first == rows[place]).all()
    covered = np.zeros(800, bool)
    for begin, end in zip(first, last, strict=True):
        covered[begin : end + 6] = True
    assert covered[:590].all()
    if growing_index.RECENT == 64:
        assert (last - first).max() > 500


def test_what_is_not_finite_is_left_out() -> None:
    vectors = VECTORS.copy()
    vectors[::2] = np.nan
    vectors[7] = np.inf
    index = GrowingIndex(64)
    index.see_from(MEAN)
    assert ask_nothing(index) == 0
    index.add(steady_table(len(vectors)), vectors, SPREAD)
    index.see_from(MEAN)
    ids, scores = ask(index, VECTORS[9], 10_000)
    assert np.isfinite(scores).all()
    assert all(i % 2 and i != 7 for i in ids)
    assert ids[0] == 9


def ask_nothing(index: GrowingIndex) -> int:
    return len(index.candidates(index.seen(VECTORS[0]), 5)[0])


def test_the_frame_of_an_index_is_taken_over_and_the_mean_may_move() -> None:
    generator = np.random.default_rng(0)
    wide = (generator.standard_normal((600, 20)) @ generator.standard_normal((20, 300)) + 9).astype(np.float32)
    frame = Frame.fit(wide, wide.mean(axis=0))
    assert frame.directions == 128
    index = GrowingIndex(300, frame)
    index.add(steady_table(600), wide, 1.0)
    for mean in (wide.mean(axis=0), wide[:100].mean(axis=0)):
        index.see_from(mean)
        rows, scores = index.candidates(index.seen(wide[77]), 1)
        assert rows.tolist() == [77]
        assert scores[0] == pytest.approx(1, abs=1e-3)
