"""A simulated sound card and two clocks: readings with errors, and the truth."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.capture.clock import ClockReading
from mertd.capture.clock_pair import ClockPair

RATE = 24_000
UNIX_NS = 1_790_000_000_123_456_789  # in 2026; a float would round it by 256 ns
STEADY_NS = 5_000_000_000_000
HOUR_S = 3_600.0


@dataclass
class SimulatedClocks:
    """Times are seconds since the first sample, on the steady clock.

    `wobble_ppm`: by which temperature changes the drift, in both directions, within six hours. `wall`: points (time, offset)
    between which wall time is slewed against the steady clock; two points at one time are a step.
    """

    drift_ppm: float = 0.0
    wobble_ppm: float = 0.0
    wall: tuple[tuple[float, float], ...] = ((0.0, 0.0),)

    def index(self, seconds: float) -> float:
        """Return the sample captured at a time: the integral of the card's speed."""
        turn = 2 * math.pi / (6 * HOUR_S)
        return RATE * (seconds * (1 + self.drift_ppm * 1e-6) + self.wobble_ppm * 1e-6 * (1 - math.cos(turn * seconds)) / turn)

    def captured_at(self, index: float) -> float:
        """Return when a sample was captured: the inverse, by fixed point."""
        seconds = index / RATE
        for _ in range(6):
            seconds += (index - self.index(seconds)) / RATE
        return seconds

    def instant(self, seconds: float) -> ClockPair:
        """Return both clocks at a time."""
        wall = self.wall
        at = bisect_right(wall, seconds, key=lambda point: point[0])
        offset = wall[min(max(at - 1, 0), len(wall) - 1)][1]
        if 0 < at < len(wall):
            (a, _), (b, later) = wall[at - 1], wall[at]
            offset += (later - offset) * (seconds - a) / (b - a)
        return ClockPair(UNIX_NS + round(seconds * 1e9) + round(offset * 1e9), STEADY_NS + round(seconds * 1e9))

    def unix_ns(self, index: float) -> int:
        """Return the true time of a sample."""
        return self.instant(self.captured_at(index)).unix_ns

    def reading(self, seconds: float, delay: float, age: float = 0.05, misjudged: float = 0.0) -> ClockReading:
        """Return the reading of the sample captured at `seconds`, which comes `delay` late.

        `age`: how old it is then. The driver thinks that it was captured `misjudged` later than it was.
        """
        called, first = self.instant(read_at(seconds, delay, age, misjudged)), seconds == 0
        reported = age - min(misjudged, 0)
        return ClockReading(
            self.index(seconds),
            called.earlier(round(reported * 1e9)),
            round(reported * 1e9),
            before_epoch=self.instant(-1) if first else None,
        )


def read_at(seconds: float, delay: float, age: float = 0.05, misjudged: float = 0.0) -> float:
    """When the clocks are read for a reading: never before the sample was captured, whatever the driver thinks."""
    return seconds + age + max(misjudged, 0) + delay


def delays(
    generator: np.random.Generator, count: int, mean_s: float, stalls: float = 0.0, block_s: float = 0.0
) -> NDArray[np.float64]:
    """Return delays of scheduling: exponential, sometimes a stall of 50-200 ms, plus quantisation to blocks."""
    late = generator.exponential(mean_s, count) + generator.uniform(0, block_s, count)
    return late + np.where(generator.random(count) < stalls, generator.uniform(0.05, 0.2, count), 0.0)
