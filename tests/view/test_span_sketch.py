"""A span in few numbers: the same novelty as the detection of changes has, however the windows come."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.memory.changes.detector import HALF, ChangeDetector
from mertd.memory.changes.novelty import novelty, side_weights
from mertd.memory.changes.stream_window import Change, StreamWindow
from mertd.view.span_sketch import AROUND, SpanSketch, Windows, novelty_of

RATE = 24_000
LENGTH = 30 * RATE
SECOND = 1_000_000_000


def windows(count: int, hop_s: float = 5.0, seed: int = 0, sections: int = 1, run: int = 1) -> Windows:
    """Windows of `sections` sounds that follow on each other."""
    random = np.random.default_rng(seed)
    sounds = random.standard_normal((sections, 16))
    vectors = sounds[np.arange(count) * sections // count] + 0.05 * random.standard_normal((count, 16))
    first = (np.arange(count) * hop_s * RATE).astype(np.int64)
    start = first * SECOND // RATE
    units = (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(np.float32)
    level = np.full(count, -20, np.float32)
    return Windows(np.full(count, run), first, np.full(count, LENGTH), start, start + 30 * SECOND, level, units)


def sketch(found: Windows, cuts: list[int], pixels: int = 100) -> SpanSketch:
    made = SpanSketch(0, int(found.end_ns[-1]), pixels)
    edges = [0, *sorted(cut % (len(found) + 1) for cut in cuts), len(found)]
    for begin, end in pairwise(edges):
        places = np.arange(len(found))
        made.add(found.take((places >= begin) & (places < end)))
    return made


def test_novelty_is_that_of_the_changes() -> None:
    found = windows(60, sections=3)
    weights = side_weights(HALF)
    expected = [novelty(list(found.directions[at : at + 2 * HALF]), weights) for at in range(len(found) - AROUND)]
    assert novelty_of(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(st.lists(st.integers(0, 100), max_size=8))
def test_how_they_come_makes_no_difference(cuts: list[int]) -> None:
    found = windows(60, sections=3)
    whole, parts = sketch(found, []), sketch(found, cuts)
    assert whole.count == parts.count == 60
    for one, other in zip((*whole.line(), *whole.means()), (*parts.line(), *parts.means()), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    assert np.array_equal(whole.levels(), parts.levels(), equal_nan=True)


def test_the_highest_value_is_where_the_sound_changes() -> None:
    found = windows(240, sections=2)
    times, values = sketch(found, [], 240).line()
    detector = ChangeDetector()
    changes = []
    for at in range(len(found)):
        starts, ends = int(found.start_ns[at]), int(found.end_ns[at])
        window = StreamWindow(bytes(16), 1, at, int(found.first[at]), LENGTH, starts, ends, found.directions[at])
        changes += [one for one in detector.feed(window) if isinstance(one, Change)]
    (change,) = changes
    best = int(values.argmax())
    assert times[best] == change.time_ns
    assert values[best] == pytest.approx(2, rel=0.1), "one sound and then another are twice as far apart as two random moments"


def test_a_peak_survives_when_there_are_few_pixels() -> None:
    found = windows(240, sections=2)
    fine, coarse = sketch(found, [], 240).line()[1].max(), sketch(found, [], 4).line()[1].max()
    assert coarse == pytest.approx(fine, rel=0.3)


def test_nothing_is_known_beside_a_gap() -> None:
    found = windows(40)
    later = Windows(
        found.run,
        found.first + 3_600 * RATE,
        found.length,
        *([found.start_ns + 3_600 * SECOND] * 2),
        *[found.rms_dbfs, found.directions],
    )
    joined = Windows(*(np.concatenate([getattr(found, n), getattr(later, n)]) for n in Windows.__dataclass_fields__))
    values = novelty_of(joined)
    assert np.isnan(values).sum() == AROUND
    assert np.isfinite(novelty_of(found)).all()
    other_run = Windows(found.run + (np.arange(40) >= 20), *(getattr(found, n) for n in list(Windows.__dataclass_fields__)[1:]))
    assert np.isnan(novelty_of(other_run)).sum() == AROUND


def test_a_short_hop_is_no_quieter() -> None:
    """Windows that begin within one step hear the same sound: on both sides of a border they would say that nothing changes."""
    slow, fast = sketch(windows(120, 5.0, sections=2), []), sketch(windows(600, 1.0, sections=2), [])
    assert fast.count < 200
    assert fast.line()[1].max() == pytest.approx(slow.line()[1].max(), rel=0.4)


def test_nothing_heard_is_nothing_drawn() -> None:
    made = SpanSketch(0, 10, 5)
    assert [len(part) for part in made.line()] == [0, 0]
    assert np.isnan(made.levels()).all()
    assert made.means()[1].tolist() == [0] * 5
