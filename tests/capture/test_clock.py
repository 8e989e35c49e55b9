"""The map from samples to Unix time, against a truth that is known here: a straight line, read through jitter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footprint import footprint
from mertd.capture.clock import ASTRAY_S, Clock, Reading, StepDetector

RATE = 24_000
START_NS = 1_790_000_000_123_456_789  # in 2026; a float would round it by 256 ns
MS = 1_000_000


def truth(drift_ppm: float) -> Callable[[float], float]:
    """Nanoseconds after `START_NS` at which a sample was heard; a source that runs fast hears more samples a second."""
    return lambda index: index / RATE / (1 + drift_ppm * 1e-6) * 1e9


def read(clock: Clock, heard: Callable[[float], float], indexes: list[int], jitter_ns: list[int]) -> None:
    for index, error in zip(indexes, jitter_ns, strict=True):
        clock.add(Reading(index, START_NS + round(heard(index)) + error))


@given(
    drift=st.floats(-200, 200),
    jitter_ms=st.floats(0, 20),
    gaps=st.lists(st.integers(RATE // 10, 4 * RATE), min_size=1, max_size=60),
    data=st.data(),
)
def test_the_error_is_within_the_bound(drift: float, jitter_ms: float, gaps: list[int], data: st.DataObject) -> None:
    """`error_ns` bounds how far the line is from any reading; the truth can be further away by what the host was wrong by."""
    most = round(jitter_ms * MS)
    indexes = np.cumsum(gaps).tolist()
    jitter = data.draw(st.lists(st.integers(-most, most), min_size=len(indexes), max_size=len(indexes)))
    clock, heard = Clock(RATE), truth(drift)
    read(clock, heard, indexes, jitter)
    for index, error in zip(indexes, jitter, strict=True):
        moment = clock.at(index)
        assert abs(moment.unix_ns - (START_NS + heard(index) + error)) <= moment.error_ns + 1_000
        assert abs(moment.unix_ns - (START_NS + heard(index))) <= moment.error_ns + most + 1_000
    for index in data.draw(st.lists(st.integers(indexes[0], indexes[-1]), max_size=5)):
        moment = clock.at(index)
        assert abs(moment.unix_ns - (START_NS + heard(index))) <= moment.error_ns + most + 1_000


@pytest.mark.parametrize("drift", [-150.0, -20.0, 0.0, 20.0, 150.0])
def test_after_minutes_drift_is_found_and_jitter_is_gone(drift: float) -> None:
    generator, heard, clock = np.random.Generator(np.random.PCG64(1)), truth(drift), Clock(RATE)
    indexes = list(range(0, 180 * RATE, RATE // 10))
    read(clock, heard, indexes, np.round(generator.uniform(-5 * MS, 5 * MS, len(indexes))).astype(int).tolist())
    moment = clock.at(indexes[-1])
    assert moment.drift_ppm == pytest.approx(drift, rel=0.08, abs=8)
    assert abs(moment.unix_ns - (START_NS + heard(indexes[-1]))) < 2 * MS
    assert 4 * MS < moment.error_ns < 8 * MS


def test_seconds_of_jitter_are_not_taken_for_drift() -> None:
    generator, clock = np.random.Generator(np.random.PCG64(1)), Clock(RATE)
    indexes = list(range(0, 3 * RATE, RATE // 10))
    read(clock, truth(0), indexes, np.round(generator.uniform(-5 * MS, 5 * MS, len(indexes))).astype(int).tolist())
    assert abs(clock.at(0).drift_ppm) < 5, "least squares alone would say hundreds"


def test_one_reading_gives_nominal_time() -> None:
    clock = Clock(RATE)
    assert not clock.known
    with pytest.raises(ValueError, match="no clock reading"):
        clock.at(0)
    clock.add(Reading(1_000.5, START_NS))
    assert clock.known
    moment = clock.at(1_000 + RATE)
    assert (moment.unix_ns, moment.error_ns, moment.drift_ppm) == (START_NS + round((RATE - 0.5) / RATE * 1e9), 0, 0)


def test_nanoseconds_survive() -> None:
    """Unix time in a float would be good to 240 ns only."""
    clock = Clock(RATE)
    read(clock, truth(0), [0, RATE, 2 * RATE], [0, 100, 200])
    assert clock.at(RATE).unix_ns == pytest.approx(START_NS + 1_000_000_100, abs=2)


@given(
    astray=st.lists(st.tuples(st.integers(0, 99), st.integers(300, 2_000), st.booleans()), max_size=30),
    drift=st.floats(-100, 100),
)
@settings(max_examples=50)
def test_readings_far_off_are_not_believed(astray: list[tuple[int, int, bool]], drift: float) -> None:
    """As long as most are near the truth, it does not matter where the others are."""
    clock, heard = Clock(RATE), truth(drift)
    indexes = [k * RATE // 10 for k in range(100)]
    jitter = [(k % 3 - 1) * MS for k in range(100)]
    for at, milliseconds, early in astray:
        jitter[at] = milliseconds * MS * (-1 if early else 1)
    read(clock, heard, indexes, jitter)
    moment = clock.at(indexes[50])
    assert abs(moment.unix_ns - (START_NS + heard(indexes[50]))) < 3 * MS
    assert moment.error_ns < ASTRAY_S * 1e9


def test_a_few_hundredths_of_a_second_are_believed() -> None:
    clock = Clock(RATE)
    read(clock, truth(0), [k * RATE for k in range(20)], [0] * 19 + [40 * MS])
    assert 30 * MS < clock.at(0).error_ns < 40 * MS


def test_old_readings_are_forgotten() -> None:
    clock, minute = Clock(RATE), 60 * RATE
    read(clock, truth(0), [k * RATE for k in range(60)], [30 * MS] * 60)
    read(clock, truth(0), [3 * minute + k * RATE for k in range(60)], [0] * 60)
    moment = clock.at(4 * minute)
    assert (moment.unix_ns, moment.error_ns) == (START_NS + 240 * 10**9, 0)


def test_ten_readings_a_second_are_enough() -> None:
    often, enough = Clock(RATE), Clock(RATE)
    read(often, truth(0), list(range(0, 60 * RATE, RATE // 200)), [0] * 60 * 200)
    read(enough, truth(0), list(range(0, 60 * RATE, RATE // 10)), [0] * 60 * 10)
    assert footprint(often) <= footprint(enough)


def test_a_day_takes_no_more_memory_than_two_minutes() -> None:
    clock, heard = Clock(RATE), truth(30)
    step = RATE // 20  # twice as often as is worth keeping
    read(clock, heard, list(range(0, 130 * RATE, step)), [0] * (130 * 20))
    clock.at(0)
    after_minutes = footprint(clock)
    for hour in range(1, 25):
        indexes = list(range(hour * 3600 * RATE, hour * 3600 * RATE + 125 * RATE, step))
        read(clock, heard, indexes, [0] * len(indexes))
        moment = clock.at(indexes[-1])
        assert abs(moment.unix_ns - (START_NS + heard(indexes[-1]))) < MS
    assert footprint(clock) <= after_minutes * 1.01


def test_a_step_is_noticed_once() -> None:
    steps, second = StepDetector(), 1_000_000_000
    assert steps.stepped(START_NS, 5 * second) == 0, "there is nothing to compare with"
    assert steps.stepped(START_NS + second, 6 * second) == 0
    assert steps.stepped(START_NS + 3_600 * second, 7 * second) == 3_598 * second, "slept for an hour"
    assert steps.stepped(START_NS + 3_601 * second, 8 * second) == 0
    assert steps.stepped(START_NS, 9 * second) == -3_602 * second, "set back"
    assert steps.stepped(START_NS + second, 10 * second) == 0


@given(ppm=st.floats(-500, 500), hours=st.integers(1, 48))
@settings(max_examples=20)
def test_slewing_is_no_step_however_long_it_goes_on(ppm: float, hours: int) -> None:
    """`adjtime` and ntpd slew by at most 500 ppm."""
    steps = StepDetector()
    for second in range(0, hours * 3_600, 10):
        assert steps.stepped(START_NS + round(second * 1e9 * (1 + ppm * 1e-6)), second * 10**9) == 0


@pytest.mark.parametrize("jump", [-251 * MS, -250 * MS, 250 * MS, 251 * MS])
def test_the_tolerance_is_exact(jump: int) -> None:
    steps = StepDetector()
    steps.stepped(START_NS, 0)
    assert steps.stepped(START_NS + 50 * MS + jump, 50 * MS) == (jump if abs(jump) > 250 * MS else 0)
