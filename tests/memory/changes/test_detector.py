"""Changes of made streams, whose boundaries are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.changes.made_streams import HOP, MEAN, RATE, SIZE, WINDOW, S, of, sound, stream, window
from mertd.memory.changes.detector import (
    MIN_HISTORY,
    MIN_NOVELTY,
    QUIET_SHARE,
    ROUNDING,
    TIMES_QUIET,
    ChangeDetector,
    Reach,
    find_changes,
)
from mertd.memory.changes.direction_spread import direction
from mertd.memory.changes.novelty import novelty, side_weights
from mertd.memory.changes.stream_window import Change, ChangeKind, Found, Gap, StreamWindow

SECTIONS = [(0, 250), (1, 180), (2, 240), (0, 160), (3, 200), (1, 200)]
BOUNDARIES = np.cumsum([length for _, length in SECTIONS])[:-1]


def test_every_boundary_is_found_within_its_bound_and_nothing_else() -> None:
    windows = stream(SECTIONS)
    found = of(find_changes(windows), ChangeKind.CHANGE)
    assert len(found) == len(BOUNDARIES)
    for change, boundary in zip(found, BOUNDARIES, strict=True):
        assert change.bound_ns == 15 * S
        assert abs(change.time_ns - boundary * S) <= change.bound_ns
        assert change.strength > MIN_NOVELTY
        assert change.index * S == pytest.approx(change.time_ns * RATE, abs=S)
        assert windows[change.seq].end_ns == change.detected_ns


def test_a_return_says_where_the_sound_was_before() -> None:
    windows = stream(SECTIONS)
    found = of(find_changes(windows), ChangeKind.RETURN)
    assert [round(change.time_ns / S / 50) * 50 for change in found] == [650, 1050]
    for change, (start, end) in zip(found, [(0, 250), (250, 430)], strict=True):
        assert change.like is not None
        assert abs(change.like.start_ns - start * S) <= 15 * S
        assert abs(change.like.end_ns - end * S) <= 15 * S
        inside = [one.seq for one in windows if change.like.start_ns <= one.middle_ns <= change.like.end_ns]
        assert change.like.last_seq == inside[-1]
        assert change.like.first_seq in (inside[0], 0), "the very first windows belong to it, too"
        assert 0.5 < change.strength <= 1


def test_it_is_reported_within_the_stated_delay() -> None:
    detector = ChangeDetector()
    delay = ChangeDetector.delay_ns(detector.reach.half, HOP * S, WINDOW * S)
    assert delay == 55 * S
    for one in stream(SECTIONS):
        for change in detector.feed(one):
            assert isinstance(change, Change)
            assert change.detected_ns == one.end_ns
            assert 0 < one.end_ns - change.time_ns <= delay


@pytest.mark.parametrize("seed", range(3))
def test_one_sound_has_no_changes(seed: int) -> None:
    """Noise and drift are no changes, whether they are large or small beside each other."""
    assert not find_changes(stream([(0, 3_000)], seed))
    assert not find_changes(stream([(0, 1_500)], seed, noise=0.01))


def test_a_sound_that_is_the_same_to_the_bit_has_no_changes() -> None:
    """Nor has one of which only the last bit of a number changes, after an hour without anything."""
    tone = np.full(SIZE, 0.3, np.float32)
    other = np.nextafter(tone, 1)
    assert not find_changes([window(n, n * HOP, tone if n < 200 else other) for n in range(300)])
    assert not find_changes([window(n, n * HOP, np.zeros(SIZE)) for n in range(300)])


def test_a_change_after_a_sound_that_was_the_same_to_the_bit_is_found() -> None:
    tones = [np.full(SIZE, 0.3, np.float32), np.linspace(-1, 1, SIZE, dtype=np.float32)]
    found = of(find_changes([window(n, n * HOP, tones[n >= 100]) for n in range(200)]), ChangeKind.CHANGE)
    assert [change.time_ns // S for change in found] == [512]  # between the middles of windows 99 and 100


def test_the_scale_of_vectors_has_no_effect() -> None:
    windows = stream(SECTIONS)
    tiny, huge = ([replace(one, vector=one.vector.astype(np.float64) * scale) for one in windows] for scale in (1e-30, 1e30))
    assert find_changes(tiny) == find_changes(windows) == find_changes(huge)


def test_the_threshold_is_the_streams_own() -> None:
    """The same boundary is news in a steady stream, and none in one that changes as much all the time."""
    rng = np.random.default_rng(3)
    restless = [(int(number), 25) for number in rng.integers(4, 16, 60)]
    steady = of(find_changes(stream([(0, 900), (1, 300)])), ChangeKind.CHANGE)
    busy = of(find_changes(stream(restless)), ChangeKind.CHANGE)
    assert len(steady) == 1
    assert len(busy) < len(restless) / 10


@pytest.mark.parametrize("seed", range(3))
def test_a_lively_sound_after_a_steady_one_is_one_change(seed: int) -> None:
    """Its own variation is more than the steady sound had in an hour."""
    steady = stream([(0, 1_800)], seed, noise=0.02)
    generator = np.random.default_rng(seed)
    seconds = sound([(1, 1_500)], seed) + MEAN + generator.standard_normal((1_500, SIZE)) * 0.5
    lively = [
        window(len(steady) + at, 1_775 + at * HOP, seconds[at * HOP : at * HOP + WINDOW].mean(axis=0)) for at in range(290)
    ]
    found = of(find_changes(steady + lively), ChangeKind.CHANGE)
    assert len(found) == 1
    assert abs(found[0].time_ns - 1_790 * S) <= found[0].bound_ns


def offline(windows: list[StreamWindow], reach: Reach) -> list[int]:
    """Times of changes, from all of the novelty curve at once."""
    half, history = reach.half, reach.history
    heard = [direction(one.vector) for one in windows]
    weights = side_weights(half)
    values = np.array([novelty(heard[at - half : at + half], weights) for at in range(half, len(windows) - half + 1)])
    found = []
    for at in range(half, len(values) - half):
        newest = at + 3 * half - 1
        recent = np.stack(heard[max(0, newest + 1 - history) : newest + 1]).astype(np.float64)
        variance = np.square(recent - recent.mean(axis=0)).sum(axis=1).mean()
        past = values[max(0, at - history) : at]
        if len(past) < MIN_HISTORY:
            continue
        quiet = max(np.quantile(part, QUIET_SHARE) for part in (past, past[-3 * half :]))
        threshold = max(TIMES_QUIET * quiet, MIN_NOVELTY * variance, ROUNDING)
        around = values[at - half : at + half + 1]
        if around.argmax() == half and values[at] >= threshold:
            before, after = windows[at + half - 1], windows[at + half]
            found.append((before.middle_ns + after.middle_ns) // 2)
    return found


@settings(max_examples=10 + settings.default.max_examples // 6)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(30, 120)), min_size=3, max_size=5),
    st.integers(0, 1000),
    st.integers(2, 8),
)
def test_live_is_what_offline_is(sections: list[tuple[int, int]], seed: int, half: int) -> None:
    windows = stream([(9, 60), *sections], seed)
    reach = Reach(half, history=40)
    live = of(find_changes(windows, reach), ChangeKind.CHANGE)
    assert [change.time_ns for change in live] == offline(windows, reach)
    assert find_changes(windows, reach) == find_changes(windows, reach)


@settings(max_examples=10 + settings.default.max_examples // 12)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(40, 200)), min_size=8, max_size=12),
    st.integers(0, 200),
    st.one_of(st.none(), st.integers(300, 700)),
    st.sampled_from([5.0, 2.0]),
)
def test_one_that_begins_in_the_middle_finds_the_same(
    sections: list[tuple[int, int]], cut: int, gap_after: int | None, hop: float
) -> None:
    """So a process that was killed, and a command that reads the memory, find what one finds that has always run."""
    windows = stream(sections, cut, gap_after=gap_after, hop=hop)
    reach = Reach(half=3, history=24, horizon=60)
    whole = ChangeDetector(reach)
    later = ChangeDetector(reach, cut_off=True)
    for at, one in enumerate(windows):
        expected = whole.feed(one)
        if at >= cut:
            found = later.feed(one)
            if later.used <= reach.warm_up:
                assert of(found, ChangeKind.CHANGE) == []
            elif later.used <= reach.past + 1:  # the first window of a step is only known behind one of another step
                assert of(found, ChangeKind.CHANGE) == of(expected, ChangeKind.CHANGE)
            else:
                assert found == expected


@pytest.mark.parametrize("step", [1, 20])
def test_a_section_that_has_just_ended_is_nothing_to_return_to(step: int) -> None:
    """Not even its first part: with 20 numbers a window, a part is 25 windows long."""
    generator = np.random.default_rng(0)
    other, sound_a, nearly_a = np.eye(SIZE)[:3]
    nearly_a = sound_a + 0.3 * nearly_a
    heard = [other] * 300 + [sound_a] * 100 + [nearly_a] * 100 + [other] * 100
    noisy = [vector + generator.standard_normal(SIZE) * 0.002 for vector in heard]
    windows = [window(step * number, number * HOP, vector) for number, vector in enumerate(noisy)]
    found = find_changes(windows)
    assert len(of(found, ChangeKind.CHANGE)) == 3
    (back,) = of(found, ChangeKind.RETURN)
    assert back.index == of(found, ChangeKind.CHANGE)[-1].index
    assert back.like is not None
    assert back.like.last_seq // step < 300
    assert back.like.last_seq - back.like.first_seq < 512


def test_nothing_is_said_about_a_gap() -> None:
    """Another sound behind a gap is not a boundary that was heard; but a later return may lead to before the gap."""
    windows = stream([(0, 300), (1, 300), (0, 300)], gap_after=300)
    gap, change, back = find_changes(windows)
    assert gap == Gap(325 * S, 10_300 * S)
    assert isinstance(change, Change)
    assert change.kind is ChangeKind.CHANGE
    assert change.time_ns > 10_000 * S
    assert isinstance(back, Change)
    assert back.like is not None
    assert back.like.end_ns <= 325 * S


@pytest.mark.parametrize("changes", [{"epoch": 1}, {"boot": bytes([7]) * 16}])
def test_another_epoch_and_another_run_are_gaps_whatever_the_clock_says(changes: dict[str, object]) -> None:
    windows = stream([(0, 300), (1, 300)])
    half = len(windows) // 2
    stepped = [replace(one, start_ns=one.start_ns - 50 * S, end_ns=one.end_ns - 50 * S, **changes) for one in windows[half:]]  # type: ignore[arg-type]
    found = find_changes([*windows[:half], *stepped])
    assert [type(one) for one in found] == [Gap]


def test_a_pause_and_a_piece_that_is_played_twice_are_no_changes() -> None:
    assert find_changes(stream([(0, 300), (0, 300)])) == []
    assert [type(one) for one in find_changes(stream([(0, 600)], gap_after=300))] == [Gap]


@pytest.mark.parametrize("seconds", range(15, 60, 5))
def test_a_boundary_that_was_not_certain_before_a_gap_is_not_told_behind_it(seconds: int) -> None:
    windows = stream([(0, 300), (1, 300)], gap_after=300 - WINDOW + seconds)
    found = find_changes(windows)
    assert isinstance(found[0], Gap) or found[0].detected_ns < 10_000 * S
    assert all(one.time_ns > 10_000 * S for one in found[found.index(gap_of(found)) + 1 :] if isinstance(one, Change))


def gap_of(found: list[Found]) -> Gap:
    (gap,) = (one for one in found if isinstance(one, Gap))
    return gap


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(20, 150)), min_size=4, max_size=8),
    st.lists(st.floats(0.5, 40), min_size=20, max_size=20),
    st.integers(0, 50),
)
def test_boundaries_are_in_order_and_apart_however_uneven_the_windows_come(
    sections: list[tuple[int, int]], hops: list[float], seed: int
) -> None:
    """Hops that change, windows that were skipped: a boundary lies between two windows that follow on each other."""
    seconds = sound([(9, 300), *sections], seed) + MEAN
    starts = np.cumsum(np.resize(hops, len(seconds)))
    windows = [
        window(seq, float(start), seconds[int(start) : int(start) + WINDOW].mean(axis=0))
        for seq, start in enumerate(starts)
        if start < len(seconds) - WINDOW - 1
    ]
    reach = Reach(half=3)
    detector, used = ChangeDetector(reach), list[StreamWindow]()
    last: Change | Gap | None = None
    for one in windows:
        before = detector.used
        found = detector.feed(one)
        used += [one] * (detector.used - before)
        for change in of(found, ChangeKind.CHANGE):
            newest = used.index(one)
            apart = used[newest - 3 * reach.half + 1 : newest + 1]
            left, right = used[newest - 2 * reach.half], used[newest - 2 * reach.half + 1]
            assert left.middle_ns <= change.time_ns <= right.middle_ns
            assert change.time_ns - change.bound_ns <= left.middle_ns
            assert right.middle_ns <= change.time_ns + change.bound_ns
            assert change.detected_ns == apart[-1].end_ns
            assert last is None or change.time_ns > (last.time_ns if isinstance(last, Change) else last.from_ns)
            last = change
        for gap in found:
            if isinstance(gap, Gap):
                assert gap.from_ns < gap.to_ns + WINDOW * S
                last = gap


@pytest.mark.parametrize("offset", range(5))
def test_a_boundary_is_found_wherever_it_lies_between_two_windows(offset: int) -> None:
    """A clean cut is found to within a hop, not to a coarser grid."""
    found = of(find_changes(stream([(0, 400 + offset), (1, 400)], noise=0.01)), ChangeKind.CHANGE)
    assert len(found) == 1
    assert abs(found[0].time_ns - (400 + offset) * S) <= HOP * S


def test_a_window_that_comes_again_or_late_is_passed_over() -> None:
    windows = stream(SECTIONS)
    again = [copy for one in windows for copy in (one, one)]
    late = [copy for at, one in enumerate(windows) for copy in (one, windows[max(0, at - 3)])]
    assert find_changes(again) == find_changes(windows) == find_changes(late)


def test_a_vector_that_is_not_finite_is_passed_over() -> None:
    windows = stream(SECTIONS)
    bad = np.full(SIZE, np.nan)
    spoilt = [one if at % 40 else replace(one, vector=bad) for at, one in enumerate(windows)]
    assert len(of(find_changes(spoilt), ChangeKind.CHANGE)) == len(BOUNDARIES)


@pytest.mark.parametrize("hop", [0.25, 1.0, 4.0, 7.5, 10.0])
def test_boundaries_are_found_at_any_hop(hop: float) -> None:
    """Also one so short that neighbouring windows hear nearly the same."""
    sections = [(0, 600), (1, 600), (2, 600)]
    found = of(find_changes(stream(sections, hop=hop, noise=0.05)), ChangeKind.CHANGE)
    assert len(found) == 2
    for change, boundary in zip(found, (600, 1_200), strict=True):
        assert abs(change.time_ns - boundary * S) <= change.bound_ns


@pytest.mark.parametrize("hop", [30.0, 60.0])
def test_windows_that_do_not_overlap_are_no_gaps(hop: float) -> None:
    windows = stream([(0, 3_000), (1, 3_000)], hop=hop, noise=0.05)
    (change,) = find_changes(windows)
    assert isinstance(change, Change)
    assert change.bound_ns == hop / 2 * S
    assert abs(change.time_ns - 3_000 * S) <= change.bound_ns
    without = windows[:20] + windows[25:]
    assert [type(one) for one in find_changes(without)][:1] == [Gap]


def test_windows_that_clients_ask_for_hide_nothing() -> None:
    """They come between those that are due, each a little later than the last."""
    windows = stream(SECTIONS)
    crowd = [
        replace(one, seq=10 * one.seq + extra, first=one.first + extra * RATE // 10) for one in windows for extra in range(10)
    ]
    plain, crowded = (of(find_changes(one), ChangeKind.CHANGE) for one in (windows, crowd))
    assert [change.time_ns for change in crowded] == [change.time_ns for change in plain]


def test_memory_is_bounded() -> None:
    """Also for a sound that never changes."""
    detector = ChangeDetector(Reach(half=2, history=50, horizon=100))
    for one in stream([(0, 20_000)], hop=10, noise=0.05):
        detector.feed(one)
        assert len(detector._waiting) <= 6 * detector.reach.half
        assert len(detector._sections) <= 2
