"""The wall clock and a steady clock, read at the same moment."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

if sys.platform == "darwin":
    STEADY_CLOCK = time.CLOCK_UPTIME_RAW
else:
    STEADY_CLOCK = time.CLOCK_MONOTONIC_RAW
"""Counts an oscillator that NTP does not adjust (it does adjust CLOCK_MONOTONIC on Linux). Stops while the machine sleeps."""

MAX_READ_NS = 50_000
"""Nanoseconds that reading both clocks may take. If it takes longer, the process was interrupted in between."""

MAX_READS = 5
"""Times both clocks are read until one reading takes less than MAX_READ_NS."""


@dataclass(frozen=True, slots=True)
class ClockPair:
    """Nanoseconds of Unix time, and of the steady clock, whose zero has no meaning."""

    unix_ns: int
    steady_ns: int

    @property
    def offset_ns(self) -> int:
        """Unix time less steady time: it changes when the wall clock is set or slewed."""
        return self.unix_ns - self.steady_ns

    def earlier(self, ns: int) -> ClockPair:
        """Return the pair `ns` nanoseconds before this one, provided that the wall clock was not set in between."""
        return ClockPair(self.unix_ns - ns, self.steady_ns - ns)


def read_clocks() -> ClockPair:
    """Read both clocks, within MAX_READ_NS of each other unless the machine is badly overloaded."""
    shortest = sys.maxsize
    for _ in range(MAX_READS):
        before = time.clock_gettime_ns(STEADY_CLOCK)
        unix = time.time_ns()
        after = time.clock_gettime_ns(STEADY_CLOCK)
        if after - before < shortest:
            shortest = after - before
            found = ClockPair(unix, (before + after) // 2)
        if shortest <= MAX_READ_NS:
            break
    return found
