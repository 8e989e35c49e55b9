"""Steps and slews of the wall clock, in virtual time: wherever they come, a sample's time is within its bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.simulated_clocks import RATE, SimulatedClocks, delays
from example_counts import examples
from mertd.capture.clock import Clock
from mertd.capture.clock_pair import ClockPair
from mertd.capture.wall_offsets import MAX_SLEW, SPAN_NS, WallOffsets

MS = 1_000_000
S = 1_000_000_000
APART_S = 0.5
"""Seconds between two steps, at least: more than between two readings, as a step that is taken back leaves no trace."""

SIZES_S = st.one_of(st.floats(0.001, 0.02), st.floats(0.02, 0.25), st.floats(0.25, 10.0))


class Recording:
    """A card that delivers a block every `interval_s`, and the clock that hears of it."""

    def __init__(self, world: SimulatedClocks, interval_s: float, late: np.ndarray) -> None:
        self.world, self.clock = world, Clock(RATE)
        self.starts = np.arange(len(late)) * interval_s
        # The blocks are delivered one after the other: what is late holds up those behind it.
        self.delivered = np.maximum.accumulate(self.starts + interval_s + late)
        self.interval_s = interval_s
        self.read = 0

    def hear(self, blocks: int) -> float:
        """Give the clock the readings up to a number of blocks. Return the end of the latest one, in seconds."""
        for start, delivered in zip(self.starts[self.read : blocks], self.delivered[self.read : blocks], strict=True):
            delay = float(delivered - start) - self.interval_s
            self.clock.add(self.world.reading(float(start), delay, self.interval_s))
        self.read = blocks
        return float(self.starts[blocks - 1]) + self.interval_s

    def check(self, seconds: float) -> int:
        """Return the bound on the time of the sample captured at a moment, after comparing the time with the truth."""
        index = round(self.world.index(seconds))
        moment = self.clock.at(index)
        off_ns = moment.unix_ns - self.world.unix_ns(index)
        assert abs(off_ns) <= moment.error_ns, f"{off_ns} ns off at {seconds} s, which is more than {moment.error_ns} ns"
        return moment.error_ns


@given(
    drift=st.floats(-200, 200),
    interval_ms=st.floats(20, 100),
    mean_ms=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    stalls=st.sampled_from([0.0, 0.02]),
    steps=st.lists(st.tuples(st.floats(APART_S, 8), SIZES_S, st.booleans()), min_size=1, max_size=4),
    slew=st.floats(-MAX_SLEW, MAX_SLEW),
    near=st.lists(st.floats(-0.03, 0.03) | st.floats(-1e-4, 1e-4), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
@settings(max_examples=examples(100))
def test_the_truth_is_within_the_bound_wherever_the_wall_clock_is_set(
    drift: float,
    interval_ms: float,
    mean_ms: float,
    stalls: float,
    steps: list[tuple[float, float, bool]],
    slew: float,
    near: list[float],
    seed: int,
    data: st.DataObject,
) -> None:
    """Steps of 1 ms to 10 s in a wall clock that is slewed all the time; samples next to steps and readings, and anywhere."""
    wall, at, offset = [(0.0, 0.0)], 0.0, 0.0
    for wait, size, forward in steps:
        at, offset = at + wait, offset + slew * wait
        wall.append((at, offset))
        offset += size if forward else -size
        wall.append((at, offset))
    wall.append((at + 10, offset + slew * 10))
    world = SimulatedClocks(drift, 0, tuple(wall))
    blocks = round((at + 3) * 1_000 / interval_ms)
    late = delays(np.random.Generator(np.random.PCG64(seed)), blocks, mean_ms / 1e3, stalls)
    recording = Recording(world, interval_ms / 1e3, late)
    for shown in [*sorted(data.draw(st.lists(st.integers(1, blocks), max_size=3))), blocks]:
        end = recording.hear(shown)
        moments = [0.0, end, *(step + by for step, _ in wall[1:-1:2] for by in near)]
        moments += [recording.delivered[data.draw(st.integers(0, shown - 1))] + by for by in near]
        moments += data.draw(st.lists(st.floats(0, end), max_size=3))
        for moment in moments:
            recording.check(float(np.clip(moment, 0, end)))


@pytest.mark.parametrize("size_s", [0.001, 0.125, -0.125, 0.249, 10.0, -10.0])
@pytest.mark.parametrize("interval_s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("mean_ms", [0.1, 3])
def test_a_step_next_to_a_sample_is_covered_and_one_far_from_it_costs_nothing(
    size_s: float, interval_s: float, mean_ms: float
) -> None:
    at_s = 20 + interval_s / 3
    world = SimulatedClocks(30, 0, ((0, 0), (at_s, 0), (at_s, size_s), (60, size_s)))
    blocks = round(40 / interval_s)
    recording = Recording(world, interval_s, delays(np.random.Generator(np.random.PCG64(5)), blocks, mean_ms / 1e3))
    recording.hear(blocks)
    for by_ms in (-50, -20, -5, -1, -0.1, -0.01, 0, 0.01, 0.1, 1, 5, 20, 50):
        recording.check(at_s + by_ms / 1e3)
    for by_s in (-10, -1, -0.25, 0.25, 1, 10):
        assert recording.check(at_s + by_s) < 20 * MS, "the step is known to be elsewhere"


def test_a_reading_too_close_to_the_one_before_still_tells_of_a_step() -> None:
    world, clock = SimulatedClocks(0, 0, ((0, 0), (10.03, 0), (10.03, 0.2), (20, 0.2))), Clock(RATE)
    for tick in range(500):
        clock.add(world.reading(tick / 50, 0.0, 0.02))
    for tick in (500, 501):
        clock.add(world.reading(tick / 50, 0.0, 0.02))
        for seconds in (10.0, 10.02, 10.0299, 10.03):
            index = round(world.index(min(seconds, (tick + 1) / 50)))
            assert abs(clock.at(index).unix_ns - world.unix_ns(index)) <= clock.at(index).error_ns


def record(*points: tuple[int, int]) -> WallOffsets:
    """Offsets of which each was recorded at a steady time, in nanoseconds."""
    offsets = WallOffsets(300 * S)
    for steady, offset in points:
        offsets.record(ClockPair(steady + offset, steady))
    return offsets


def test_an_offset_that_was_recorded_is_remembered_though_its_recording_is_dropped() -> None:
    """It differed by less than what makes a recording worth keeping."""
    offsets = record((0, 0), (100 * MS, 0), (200 * MS, 900_000), (300 * MS, 0), (400 * MS, 0))
    low, high = offsets.between(150 * MS, 250 * MS)
    assert low <= 0
    assert high >= 900_000


def test_only_offsets_around_the_moment_count() -> None:
    offsets = record((0, 0), (S, 0), (2 * S, 0), (2 * S + 50 * MS, 9 * S), (3 * S, 9 * S))
    slewed = round(MAX_SLEW * SPAN_NS)
    assert offsets.between(S + MS, 2 * S - MS) == (-slewed, slewed)
    assert offsets.between(2 * S + MS, 2 * S + 2 * MS) == pytest.approx((0, 9 * S), abs=slewed)
    assert offsets.between(2 * S - MS, 2 * S + 60 * MS) == pytest.approx((0, 9 * S), abs=slewed)
    assert offsets.between(2 * S + 60 * MS, 2 * S + 70 * MS) == pytest.approx((9 * S, 9 * S), abs=slewed)


def test_beyond_the_recordings_only_a_slew_is_assumed() -> None:
    offsets = record((0, 0), (S, 0), (S + 1, S))
    assert offsets.between(11 * S, 12 * S) == (S - 5_500_000, S + 5_500_000)
    assert offsets.between(-S, -S + 1) == (-500_000, 500_000)
    assert offsets.at(12 * S) == S
    assert offsets.at(-S) == 0


@given(
    moves=st.lists(
        st.tuples(st.integers(1, 2_000), st.integers(-2 * S, 2 * S) | st.integers(-MS, MS)), min_size=1, max_size=60
    ),
    data=st.data(),
)
@settings(max_examples=examples(100))
def test_the_bounds_hold_every_offset_that_was_recorded(moves: list[tuple[int, int]], data: st.DataObject) -> None:
    points, steady = [], 0
    for wait_ms, offset in moves:
        steady += wait_ms * MS
        points.append((steady, offset))
    offsets = record(*points)
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, steady + S)] * 2)))
    low, high = offsets.between(begin, end)
    assert low <= high
    assert all(low <= offset <= high for at, offset in points if begin <= at <= end)
    assert low <= offsets.at(begin) <= high
    assert low <= offsets.at(end) <= high
