"""One instant on two clocks: the wall clock, which can be set and slewed, and a steady one, which nobody touches."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

if sys.platform == "darwin":
    STEADY = time.CLOCK_UPTIME_RAW
else:
    STEADY = time.CLOCK_MONOTONIC_RAW
"""Counts an oscillator, whatever NTP does to the wall clock; CLOCK_MONOTONIC is slewed with it on Linux. Stops in sleep."""

BRACKET_NS, TRIES = 50_000, 5
"""A look at both clocks that took longer was interrupted between them and is repeated."""


@dataclass(frozen=True, slots=True)
class Instant:
    """Nanoseconds of Unix time and of the steady clock, whose zero means nothing."""

    unix_ns: int
    steady_ns: int

    @property
    def offset_ns(self) -> int:
        return self.unix_ns - self.steady_ns

    def before(self, ns: int) -> Instant:
        """The instant `ns` ago, as far as nobody has set the wall clock in between."""
        return Instant(self.unix_ns - ns, self.steady_ns - ns)


def now() -> Instant:
    """Both clocks, read within 50 µs of each other unless the machine is in a very bad way."""
    best = sys.maxsize
    for _ in range(TRIES):
        begun, unix, done = time.clock_gettime_ns(STEADY), time.time_ns(), time.clock_gettime_ns(STEADY)
        if done - begun < best:
            best, found = done - begun, Instant(unix, (begun + done) // 2)
        if best <= BRACKET_NS:
            break
    return found
