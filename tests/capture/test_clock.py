"""The map from samples to Unix time: its error against a simulated truth stays within its own bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capture.simulated_clocks import RATE, STEADY_NS, UNIX_NS, SimulatedClocks, delays, read_at
from example_counts import examples
from footprint import footprint
from mertd.capture.clock import MIN_STEP_NS, Clock, ClockReading, SampleTime, StepDetector
from mertd.capture.clock_fit import START_ERROR_S
from mertd.capture.clock_pair import ClockPair

MS = 1_000_000
SECOND = 1_000_000_000


def read(clock: Clock, world: SimulatedClocks, seconds: np.ndarray, late: np.ndarray, misjudged: float = 0.0) -> None:
    """`misjudged`: by how much, in seconds, the driver is wrong about the samples of the first second."""
    for at, delay in zip(seconds, late, strict=True):
        clock.add(world.reading(float(at), float(delay), misjudged=misjudged if at < 1 else 0.0))


def check(clock: Clock, world: SimulatedClocks, index: int) -> SampleTime:
    """Return the time of a sample, after checking that the truth is within its bound."""
    moment = clock.at(index)
    assert abs(moment.unix_ns - world.unix_ns(index)) <= moment.error_ns
    return moment


def seen(wall: list[tuple[float, float]], begin: float, end: float) -> bool:
    """Return whether every excursion of wall time lasts until a reading: one between two readings cannot be noticed."""
    times, offsets = zip(*wall, strict=True)
    low, high = sorted(np.interp([begin, end], times, offsets))
    return all(low - 1e-3 <= offset <= high + 1e-3 for at, offset in wall if begin < at < end)


@pytest.mark.parametrize("drift", [-200.0, -30.0, 0.0, 200.0])
@pytest.mark.parametrize(("mean_ms", "stalls", "block_ms"), [(2, 0.0, 0), (5, 0.01, 0), (4, 0.01, 10)])
def test_ordinary_jitter_leaves_milliseconds(drift: float, mean_ms: float, stalls: float, block_ms: float) -> None:
    generator = np.random.Generator(np.random.PCG64(7))
    world, clock = SimulatedClocks(drift), Clock(RATE)
    seconds = np.arange(0, 120, 0.05)
    late = delays(generator, len(seconds), mean_ms / 1e3, stalls, block_ms / 1e3)
    for begin in range(0, 2_400, 100):
        read(clock, world, seconds[begin : begin + 100], late[begin : begin + 100])
        end = int(seconds[begin + 99] * RATE)
        for index in (max(0, end - 30 * RATE), end):
            moment = check(clock, world, index)
            assert moment.error_ns < 20 * MS
            assert abs(moment.unix_ns - world.unix_ns(index)) < (4 + block_ms / 2) * MS, "far better than the mean delay"
    assert moment.drift_ppm == pytest.approx(drift, abs=15)


@given(
    drift=st.floats(-200, 200),
    wobble=st.floats(-10, 10),
    mean_ms=st.floats(0.1, 20),
    stalls=st.floats(0, 0.05),
    block_ms=st.floats(0, 20),
    per_second=st.sampled_from([1, 4, 20]),
    misjudged=st.floats(-0.4, 0.4),
    pauses=st.lists(st.tuples(st.floats(2, 60), st.floats(1, 120)), max_size=3),
    moves=st.lists(st.tuples(st.floats(0, 120), st.floats(-0.249, 0.249), st.sampled_from([0.0, 600.0])), max_size=3),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
@settings(max_examples=examples(120))
def test_the_truth_is_within_the_bound(
    drift: float,
    wobble: float,
    mean_ms: float,
    stalls: float,
    block_ms: float,
    per_second: int,
    misjudged: float,
    pauses: list[tuple[float, float]],
    moves: list[tuple[float, float, float]],
    seed: int,
    data: st.DataObject,
) -> None:
    """For any card, first second of the driver, scheduling, pauses of readings, and steps and slews of wall time."""
    wall: list[tuple[float, float]] = [(0.0, 0.0)]
    offset = at = 0.0
    for wait, by, slewed in moves:
        at += wait
        wall.append((at, offset))
        offset, at = offset + by, at + slewed * abs(by) / 0.249  # at 415 ppm, or at once
        wall.append((at, offset))
    world = SimulatedClocks(drift, wobble, tuple(wall))
    generator, clock = np.random.Generator(np.random.PCG64(seed)), Clock(RATE, 700)
    starts, now = [], 0.0
    for length, pause in [*pauses, (20.0, 0.0)]:
        starts.append(np.arange(now, now + length, 1 / per_second))
        now += length + pause
    seconds = np.concatenate(starts)
    late = delays(generator, len(seconds), mean_ms / 1e3, stalls, block_ms / 1e3)
    assume(misjudged + late[0] <= START_ERROR_S)  # a later first reading is not covered
    called = [read_at(at, by, misjudged=misjudged if at < 1 else 0.0) for at, by in zip(seconds, late, strict=True)]
    assume(all(seen(wall, a, b) for a, b in itertools.pairwise([-1.0, *np.unique(np.maximum.accumulate(called))])))
    shown = sorted(data.draw(st.lists(st.integers(1, len(seconds)), min_size=1, max_size=4)))
    for begin, end in zip([0, *shown], shown, strict=False):
        read(clock, world, seconds[begin:end], late[begin:end], misjudged)
        last = int(seconds[end - 1] * RATE * (1 + drift * 1e-6))
        for index in [0, last, *data.draw(st.lists(st.integers(0, last), max_size=4))]:
            check(clock, world, index)


def test_a_slew_is_followed_over_the_longest_window() -> None:
    """500 ppm for eight minutes make 0.24 s, and the window began before."""
    world, clock = SimulatedClocks(50, 0, ((0, 0), (60, 0), (540, 0.24))), Clock(RATE, 660)
    seconds = np.arange(0, 600, 0.1)
    read(clock, world, seconds, delays(np.random.Generator(np.random.PCG64(1)), len(seconds), 0.003))
    for index in range(0, 600 * RATE, 50 * RATE):
        assert check(clock, world, index).error_ns < 20 * MS


def test_a_step_below_the_tolerance_is_followed() -> None:
    """It is exact, except around the step, where the bound is wider."""
    world, clock = SimulatedClocks(50, 0, ((0, 0), (30, 0), (30, 0.2))), Clock(RATE)
    seconds = np.arange(0, 60, 0.05)
    read(clock, world, seconds, delays(np.random.Generator(np.random.PCG64(1)), len(seconds), 0.003))
    errors = [check(clock, world, index).error_ns for index in range(0, 60 * RATE, RATE // 50)]
    assert sum(error > 20 * MS for error in errors) <= 6, "samples of one tenth of a second"


def test_wrong_ages_in_the_first_second_are_outliers() -> None:
    """The bound covers them while they might be right, and next to them always."""
    for misjudged in (-0.3, 0.3):
        world, clock = SimulatedClocks(), Clock(RATE)
        seconds = np.arange(0, 20, 0.05)
        late = np.zeros(len(seconds))
        read(clock, world, seconds[:50], late[:50], misjudged)
        assert check(clock, world, 2 * RATE).error_ns > 300 * MS
        read(clock, world, seconds[50:], late[50:], misjudged)
        assert check(clock, world, 10 * RATE).error_ns < 5 * MS
        assert abs(clock.at(0).unix_ns - UNIX_NS) < 2 * MS
        assert check(clock, world, 0).error_ns > 300 * MS


@pytest.mark.parametrize("misjudged", [-0.045, 0.045])
@pytest.mark.parametrize("pause_s", [40.0, 110.0])
def test_a_wrong_first_second_before_a_long_pause_is_within_the_bound(misjudged: float, pause_s: float) -> None:
    """Little is heard before the pause: a line through the wrong second and all that comes later fits all but one second."""
    world, seconds = SimulatedClocks(), np.concatenate([np.arange(42), np.arange(400) + 20 * pause_s]) / 20
    for seed in range(examples(40)):
        clock, late = Clock(RATE), delays(np.random.Generator(np.random.PCG64(seed)), len(seconds), 0.02, 0.0, 0.012)
        for begin, end in itertools.pairwise([0, *range(42, 240, 6)]):
            read(clock, world, seconds[begin:end], late[begin:end], misjudged)
            check(clock, world, 0)
            check(clock, world, round(seconds[end - 1] * RATE))


def test_samples_lost_unnoticed_move_the_line_and_widen_the_bound_there() -> None:
    clock = Clock(RATE)
    heard = [second + (0.3 if second > 30 else 0.0) for second in np.arange(0, 60, 0.05)]
    for number, second in enumerate(heard):
        clock.add(ClockReading(number * RATE / 20, ClockPair(UNIX_NS, STEADY_NS).earlier(-round(second * 1e9))))
    for index in range(0, 60 * RATE, RATE):
        truth = UNIX_NS + round(heard[index * 20 // RATE] * 1e9)
        assert abs(clock.at(index).unix_ns - truth) <= clock.at(index).error_ns


@pytest.mark.parametrize("mean_ms", [0.1, 3])
def test_a_pause_without_catching_up_widens_the_bound_from_the_first_block_on(mean_ms: float) -> None:
    """As with a pipe whose writer had to drop a second: the bound covers it from then on, and not before."""
    generator = np.random.Generator(np.random.PCG64(3))
    world, clock = SimulatedClocks(), Clock(RATE)
    seconds = np.arange(0, 20, 0.05)
    late = delays(generator, len(seconds), mean_ms / 1e3)
    pause, at_s = 1.0, 10.23
    for at, delay in zip(seconds, late, strict=True):
        paused = at > at_s
        clock.add(world.reading(float(at), float(delay) + (pause if paused else 0.0)))
        newest = round(at * RATE) + RATE // 20
        moment = clock.at(newest)
        assert abs(moment.unix_ns - world.unix_ns(newest) - (pause * 1e9 if paused else 0)) <= moment.error_ns
        if 4 < at < at_s:
            assert moment.error_ns < 20 * MS
        if at > 2:
            check(clock, world, round(min(at - 1, at_s - 0.1) * RATE))


@pytest.mark.parametrize("part_s", [0.005, 0.02, 0.04])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_reading_too_close_to_the_one_before_still_tells_of_a_pause(part_s: float, parts: int) -> None:
    """The block before the pause was a short one, and so are some after it: only their readings are late."""
    pause, at_s = 1.0, 10.0
    world, clock = SimulatedClocks(), Clock(RATE)
    read(clock, world, np.arange(0, at_s, 0.05), np.zeros(200))
    clock.add(world.reading(at_s, 0.0))
    for part in range(1, parts + 1):
        begin = at_s + part * part_s
        clock.add(world.reading(begin, pause))
        for seconds in np.linspace(at_s + part_s, begin + 0.04, 9):
            index = round(seconds * RATE)
            moment = clock.at(index)
            assert abs(moment.unix_ns - world.unix_ns(index) - pause * SECOND) <= moment.error_ns
    assert check(clock, world, round(at_s * RATE) + 1).error_ns < 20 * MS, "the block before it"
    read(clock, world, at_s + part_s * (parts + 1) + np.arange(0, 2, 0.05), np.full(40, pause))
    moment = clock.at(index)
    assert abs(moment.unix_ns - world.unix_ns(index) - pause * SECOND) <= moment.error_ns


def test_a_pause_after_the_first_reading_leaves_the_bound_wide_there() -> None:
    clock, world = Clock(RATE), SimulatedClocks()
    seconds = np.arange(0, 30, 0.05)
    read(clock, world, seconds, np.where(seconds > 0, 0.6, 0.0))
    check(clock, world, 0)
    assert clock.at(5 * RATE).error_ns < 5 * MS


def test_beyond_the_readings_the_bound_grows() -> None:
    clock, world = Clock(RATE), SimulatedClocks(200)
    seconds = np.arange(0, 10, 0.05)
    read(clock, world, seconds, np.zeros(len(seconds)))
    errors = [check(clock, world, second * RATE).error_ns for second in (10, 60, 600, 3_600)]
    assert errors == sorted(set(errors))


def test_a_reading_of_a_source_without_a_clock_is_exact() -> None:
    clock = Clock(RATE)
    assert not clock.known
    with pytest.raises(ValueError, match="no clock reading"):
        clock.at(0)
    clock.add(ClockReading(1_000.5, ClockPair(UNIX_NS, 0), exact=True))
    assert clock.known
    assert clock.at(1_000 + RATE) == SampleTime(UNIX_NS + round((RATE - 0.5) / RATE * 1e9), 0, 0.0)
    assert clock.at(1_000 + 86_400 * RATE).unix_ns == UNIX_NS + round((86_400 - 0.5 / RATE) * 1e9)


def test_one_reading_has_a_wide_bound() -> None:
    clock, world = Clock(RATE), SimulatedClocks(200)
    clock.add(world.reading(0.0, 0.004))
    assert check(clock, world, 0).error_ns > 400 * MS
    assert check(clock, world, 600 * RATE).error_ns > 500 * MS


def test_the_bound_stays_wide_for_a_handful_of_readings() -> None:
    clock, world = Clock(RATE), SimulatedClocks()
    read(clock, world, np.arange(0.0, 8), np.zeros(8))
    assert check(clock, world, 4 * RATE).error_ns > 400 * MS
    read(clock, world, np.arange(8.0, 40), np.zeros(32))
    assert check(clock, world, 20 * RATE).error_ns < 5 * MS


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_covers_groups_of_single_late_readings(seed: int) -> None:
    clock, world = Clock(RATE), SimulatedClocks()
    read(clock, world, np.arange(0.0, 90), delays(np.random.Generator(np.random.PCG64(seed)), 90, 0.005))
    assert check(clock, world, 45 * RATE).error_ns < 30 * MS


def test_the_bound_covers_groups_of_two_late_readings() -> None:
    """Whose spread is the distance between the two: without it, 18 pairs that are all late by 10 ms look like one line."""
    generator = np.random.Generator(np.random.PCG64(2**30))
    clock, world = Clock(RATE), SimulatedClocks(0, -1)
    seconds = np.array([0.0, 1.0, *np.arange(3.0, 25), *np.arange(26.0, 41)])
    late = delays(generator, 104, 0.011, 0.0, 0.011)[: len(seconds)]
    read(clock, world, seconds, late)
    for second in range(0, 41, 4):
        check(clock, world, second * RATE)


def test_one_late_reading_at_the_end_is_not_a_group() -> None:
    clock, world = Clock(RATE), SimulatedClocks()
    seconds = np.arange(0, 600) * 0.05
    read(clock, world, seconds, np.zeros(600))
    clock.add(world.reading(30.5, 0.1))
    assert check(clock, world, 30 * RATE).error_ns < 5 * MS


def test_a_drift_that_bends_while_nothing_is_read_stays_within_the_bound() -> None:
    """By 10 ppm in the hour after the last reading."""
    clock, world = Clock(RATE, 700), SimulatedClocks(50, 10)
    seconds = np.arange(0, 600, 0.1)
    read(clock, world, seconds, np.zeros(len(seconds)))
    check(clock, world, 4_200 * RATE)


def test_times_are_exact_to_the_nanosecond() -> None:
    """Unix time in a float would be good to 240 ns only."""
    clock, world = Clock(RATE), SimulatedClocks()
    read(clock, world, np.arange(0, 10, 0.05), np.zeros(200))
    assert clock.at(RATE).unix_ns == pytest.approx(UNIX_NS + SECOND, abs=2)


def test_twenty_readings_a_second_are_enough() -> None:
    often, enough = Clock(RATE), Clock(RATE)
    read(often, SimulatedClocks(), np.arange(0, 30, 0.005), np.zeros(6_000))
    read(enough, SimulatedClocks(), np.arange(0, 30, 0.05), np.zeros(600))
    assert footprint(often) <= footprint(enough)


def test_memory_does_not_grow_with_time_nor_with_steps() -> None:
    clock = Clock(RATE, 60)
    seconds = np.arange(0, 900, 0.2)
    steps = tuple((at, 0.1 * (number % 2)) for number in range(900) for at in (number * 1.0, number + 1.0))
    world, sizes = SimulatedClocks(30, 0, steps), []
    for begin in range(0, len(seconds), 250):
        read(clock, world, seconds[begin : begin + 250], np.zeros(250))
        clock.at(round(seconds[begin] * RATE))
        sizes.append(footprint(clock))
    assert max(sizes[3:]) <= max(sizes[:3]) * 1.05


def instant(unix_ns: int, steady_ns: int) -> ClockPair:
    return ClockPair(UNIX_NS + unix_ns, steady_ns)


def test_a_step_is_noticed_once() -> None:
    steps = StepDetector()
    assert steps.step_ns(instant(0, 5 * SECOND)) == 0, "there is nothing to compare with"
    assert steps.step_ns(instant(SECOND, 6 * SECOND)) == 0
    assert steps.step_ns(instant(3_600 * SECOND, 7 * SECOND)) == 3_598 * SECOND, "slept for an hour"
    assert steps.step_ns(instant(3_601 * SECOND, 8 * SECOND)) == 0
    assert steps.step_ns(instant(0, 9 * SECOND)) == -3_602 * SECOND, "set back"
    assert steps.step_ns(instant(SECOND, 10 * SECOND)) == 0


@given(ppm=st.floats(-500, 500), hours=st.integers(1, 48))
@settings(max_examples=examples(40))
def test_slewing_is_not_a_step_however_long_it_lasts(ppm: float, hours: int) -> None:
    """`adjtime` and ntpd slew by at most 500 ppm."""
    steps = StepDetector()
    for second in range(0, hours * 3_600, 10):
        assert steps.step_ns(instant(round(second * 1e9 * (1 + ppm * 1e-6)), second * SECOND)) == 0


@pytest.mark.parametrize("jump", [-251 * MS, -250 * MS, 250 * MS, 251 * MS])
def test_the_tolerance_is_exact(jump: int) -> None:
    steps = StepDetector()
    steps.step_ns(instant(0, 0))
    assert steps.step_ns(instant(50 * MS + jump, 50 * MS)) == (jump if abs(jump) > MIN_STEP_NS else 0)
