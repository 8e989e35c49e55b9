"""Changes of made streams, whose boundaries are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.memory.changes.detector import (
    DEVIATIONS,
    MIN_HISTORY,
    MIN_NOVELTY,
    Change,
    ChangeDetector,
    ChangeKind,
    StreamWindow,
    find_changes,
)
from mertd.memory.changes.novelty import novelty
from mertd.memory.similarity.centre import centred_units

HOP = 5
WINDOW = 30
S = 1_000_000_000
SIZE = 32
MEAN = np.full(SIZE, 3, np.float32)


def stream(
    sections: list[tuple[int, int]], seed: int = 0, noise: float = 0.15, gap_after: int | None = None
) -> list[StreamWindow]:
    """Windows of sections (sound, seconds): each is the mean of the sounds that it hears, with noise, beside a far centre."""
    generator = np.random.default_rng(seed)
    sounds = np.random.default_rng(99).standard_normal((16, SIZE)) / SIZE**0.5
    seconds = np.concatenate([np.tile(sounds[sound], (length, 1)) for sound, length in sections])
    drift = np.cumsum(generator.standard_normal(seconds.shape), axis=0) * (0.004 / SIZE**0.5)
    seconds = seconds + drift
    windows = []
    for start in range(0, len(seconds) - WINDOW + 1, HOP):
        vector = seconds[start : start + WINDOW].mean(axis=0) + generator.standard_normal(SIZE) * (noise / SIZE**0.5)
        at = start + (10_000 if gap_after is not None and start >= gap_after else 0)
        windows.append(StreamWindow(at * S, (at + WINDOW) * S, (vector + MEAN).astype(np.float16)))
    return windows


SECTIONS = [(0, 200), (1, 180), (2, 240), (0, 160), (3, 200), (1, 200)]
BOUNDARIES = np.cumsum([length for _, length in SECTIONS])[:-1]


def of(found: list[Change], kind: ChangeKind) -> list[Change]:
    return [change for change in found if change.kind is kind]


def test_every_boundary_is_found_within_its_bound_and_nothing_else() -> None:
    found = of(find_changes(stream(SECTIONS), MEAN), ChangeKind.CHANGE)
    assert len(found) == len(BOUNDARIES)
    for change, boundary in zip(found, BOUNDARIES, strict=True):
        assert change.bound_ns == 15 * S
        assert abs(change.time_ns - boundary * S) <= change.bound_ns
        assert change.strength > MIN_NOVELTY


def test_a_return_says_where_the_sound_was_before() -> None:
    found = of(find_changes(stream(SECTIONS), MEAN), ChangeKind.RETURN)
    assert [round(change.time_ns / S / 50) * 50 for change in found] == [600, 1000]
    for change, (start, end) in zip(found, [(0, 200), (200, 380)], strict=True):
        assert change.back_to_ns is not None
        assert abs(change.back_to_ns[0] - start * S) <= 30 * S
        assert abs(change.back_to_ns[1] - end * S) <= 30 * S
        assert 0.5 < change.strength <= 1


def test_it_is_reported_within_the_stated_delay() -> None:
    detector = ChangeDetector(MEAN)
    delay = ChangeDetector.delay_ns(detector.half, HOP * S, WINDOW * S)
    for window in stream(SECTIONS):
        for change in detector.feed(window):
            assert change.detected_ns == window.end_ns
            assert 0 < window.end_ns - change.time_ns <= delay


@pytest.mark.parametrize("seed", range(3))
def test_one_sound_has_no_changes(seed: int) -> None:
    assert not find_changes(stream([(0, 3_000)], seed), MEAN)


def test_the_threshold_is_the_streams_own() -> None:
    """The same boundary is news in a steady stream, and none in one that changes as much all the time."""
    rng = np.random.default_rng(3)
    restless = [(int(sound), 25) for sound in rng.integers(4, 16, 60)]
    steady = of(find_changes(stream([(0, 900), (1, 300)]), MEAN), ChangeKind.CHANGE)
    busy = of(find_changes(stream(restless), MEAN), ChangeKind.CHANGE)
    assert len(steady) == 1
    assert len(busy) < len(restless) / 10


def offline(windows: list[StreamWindow], half: int) -> list[int]:
    """Times of changes, from all of the novelty curve at once."""
    units = centred_units(np.stack([window.vector for window in windows]), MEAN)
    values = novelty(units, half).astype(np.float64)[half : len(windows) - half + 1]
    found = []
    for at in range(half, len(values) - half):
        past = values[max(0, at - 720) : at]
        if len(past) < MIN_HISTORY:
            continue
        median = np.median(past)
        deviation = 1.4826 * np.median([median - value for value in past if value <= median])
        threshold = max(median + DEVIATIONS * deviation, MIN_NOVELTY)
        around = values[at - half : at + half + 1]
        if around.argmax() == half and values[at] >= threshold:
            before, after = windows[at + half - 1], windows[at + half]
            found.append((before.start_ns + before.end_ns + after.start_ns + after.end_ns) // 4)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(30, 120)), min_size=3, max_size=5),
    st.integers(0, 1000),
    st.integers(2, 8),
)
def test_live_is_what_offline_is(sections: list[tuple[int, int]], seed: int, half: int) -> None:
    windows = stream([(9, 60), *sections], seed)
    live = of(find_changes(windows, MEAN, half), ChangeKind.CHANGE)
    assert [change.time_ns for change in live] == offline(windows, half)
    assert find_changes(windows, MEAN, half) == find_changes(windows, MEAN, half)


def test_nothing_is_said_about_a_hole() -> None:
    """Another sound behind a hole is not a boundary that was heard; but a later return may lead to before the hole."""
    windows = stream([(0, 300), (1, 300), (0, 300)], gap_after=300)
    found = find_changes(windows, MEAN)
    assert [change.kind for change in found] == [ChangeKind.CHANGE, ChangeKind.RETURN]
    assert found[0].time_ns > 10_000 * S
    assert found[1].back_to_ns is not None
    assert found[1].back_to_ns[0] < 300 * S


def test_a_vector_that_is_not_finite_is_passed_over() -> None:
    windows = stream(SECTIONS)
    bad = np.full(SIZE, np.nan)
    spoilt = [w if at % 40 else StreamWindow(w.start_ns, w.end_ns, bad) for at, w in enumerate(windows)]
    assert len(of(find_changes(spoilt, MEAN), ChangeKind.CHANGE)) == len(BOUNDARIES)


def test_memory_is_bounded() -> None:
    """Also for a sound that never changes."""
    detector = ChangeDetector(MEAN, half=2)
    for window in stream([(0, 2_000)]):
        detector.feed(window)
        assert len(detector._waiting) <= 6 * detector.half
