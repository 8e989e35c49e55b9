"""The clocks of one stream: one for each epoch that a window may still need."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mertd.capture.clock import Clock, ClockReading, SampleTime


class EpochClocks:
    """Translates samples of any epoch into time.

    Attributes:
        rate: samples a second.
    """

    def __init__(self, rate: int, memory_s: float, unix_ns: Callable[[], int]) -> None:
        """`memory_s`: how old the samples may be whose time is asked for. `unix_ns`: dates events for which no sample can."""
        self.rate = rate
        self._memory_s = memory_s
        self._unix_ns = unix_ns
        self._epoch = 0
        self._clocks = {0: Clock(rate, memory_s)}

    def begin(self, epoch: int) -> None:
        """Start a new clock: readings belong to `epoch` from now on."""
        self._epoch = epoch
        self._clocks[epoch] = Clock(self.rate, self._memory_s)

    def add(self, readings: Iterable[ClockReading]) -> None:
        """Add readings of the newest epoch."""
        for reading in readings:
            self._clocks[self._epoch].add(reading)

    def at(self, epoch: int, index: int) -> SampleTime:
        """Return when sample `index` of `epoch` was captured. Raises `ValueError` before the first reading of the epoch."""
        return self._clocks[epoch].at(index)

    def unix_ns(self, epoch: int, index: int) -> int:
        """Return when sample `index` of `epoch` was captured, in Unix nanoseconds; the present time if no reading tells."""
        clock = self._clocks.get(epoch)
        return clock.at(index).unix_ns if clock is not None and clock.known else self._unix_ns()

    def keep(self, epochs: Iterable[int]) -> None:
        """Drop all clocks but those of `epochs` and the newest one."""
        needed = {self._epoch, *epochs}
        self._clocks = {epoch: clock for epoch, clock in self._clocks.items() if epoch in needed}

    def __len__(self) -> int:
        return len(self._clocks)
