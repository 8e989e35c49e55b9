"""The time at which each sample was captured: the map from sample index to Unix time, with a bound on its error.

Rules of this file: it reads no clock. Readings come in, each a sample index and the time at which the host captured it.

The map has two parts, because wall time is set and slewed while oscillators are not:

    sample index -> steady time   a straight line fitted to the readings (`clock_fit`): the ratio of two oscillators, which
                                  changes by parts per million an hour
    steady time  -> Unix time     recorded exactly with every reading, so that it follows NTP and manual changes

**The bound on the error** is the sum of two bounds:

    steady    On the error of the steady time: the bound of the line (see `clock_fit`), or, while there are too few readings for
              a group, the delay of all readings from the sample on, as the source may have paused for that long. Every reading
              counts here, however close it is to the one before: it may be the only one of the samples after a pause.
    offset    On the error of the offset: how far any offset is that was recorded around the sample, whose steady time is known
              give or take its bound. A step near the sample may be on either side of it, so both offsets count. Between
              recordings and beyond them, MAX_SLEW times their distance is added (see `wall_offsets`).

It holds for steps of any size, slews of up to MAX_SLEW and any drift of up to 3 DRIFT_PRIOR_PPM, wherever they come between the
readings. It does not cover what no reading can reveal:

    - a constant delay between the microphone and the converter that the driver does not report
    - a delay of the first reading of an epoch by more than `clock_fit.START_ERROR_S`, until a reading comes that is less late
    - a step that is taken back before the clocks are read again
    - a step after the latest reading, for samples beyond it. The clocks are read after the samples of a block were captured,
      so that no sample in the ring is beyond the latest reading.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mertd.capture.clock_fit import GROUP_S, MIN_ERROR_S, MIN_READINGS, OUTLIER_S, Group, Line, summarise
from mertd.capture.clock_pair import ClockPair
from mertd.capture.wall_offsets import WallOffsets

RECENT_READINGS = 80
"""Latest readings that are kept singly, to notice a delay before it fills a group. The line uses at least every other one."""

MIN_STEP_NS = 250_000_000
"""Nanoseconds: a larger jump of wall time begins a new epoch; a smaller one is followed."""


@dataclass(frozen=True)
class ClockReading:
    """The host's statement of when one sample was captured."""

    index: float
    captured_at: ClockPair
    age_ns: int = 0  # how long after `captured_at` the clocks were read
    exact: bool = False  # by definition, as in a recording, which has no clock but its nominal rate
    before_epoch: ClockPair | None = None  # with the first reading of an epoch: the clocks before any of it was captured


@dataclass(frozen=True)
class SampleTime:
    """When one sample was captured."""

    unix_ns: int
    error_ns: int  # bound on the distance to the true time
    drift_ppm: float  # by how much the source's clock is faster (+) than nominal, measured by the host's


class Clock:
    """The timeline of one epoch of one stream, at `rate` samples per second."""

    def __init__(self, rate: int, memory_s: float = 300.0, spacing_s: float = 0.045) -> None:
        """`memory_s`: age of the oldest sample that will be asked for.

        A reading closer than `spacing_s` to the one before is not used for the line.
        """
        self._rate = rate
        self._memory_s = memory_s
        self._spacing = spacing_s * rate
        self._origin: ClockReading | None = None
        self._last = 0.0  # index of the latest reading used
        self._group: list[tuple[float, float]] = []  # of the current second: nominal time, steady time less nominal time
        self._groups: deque[Group] = deque()
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_READINGS)  # as in `_group`, close ones included
        self._offsets = WallOffsets(round(memory_s * 1.001e9))  # of wall time against steady time
        self._line: Line | None = None  # None: to be fitted again

    def add(self, reading: ClockReading) -> None:
        """Take a reading into account. Indexes must not decrease."""
        if not reading.exact:
            if reading.before_epoch:
                self._offsets.record(reading.before_epoch)
            self._offsets.record(reading.captured_at.earlier(-reading.age_ns))
        if self._origin is None or reading.exact:
            self._origin = reading
        origin = self._origin
        if origin.exact:
            return
        x = (reading.index - origin.index) / self._rate
        excess = (reading.captured_at.steady_ns - origin.captured_at.steady_ns) / 1e9 - x
        if self._group and reading.index - self._last < self._spacing:
            self._keep_close(x, excess)
            return
        self._last = reading.index
        self._line = None
        if self._group and x - self._group[0][0] >= GROUP_S:
            self._groups.append(summarise(self._group))
            self._group = []
        self._group.append((x, excess))
        self._recent.append((x, excess))
        while self._groups and x - self._groups[0].x > self._memory_s:
            self._groups.popleft()

    @property
    def known(self) -> bool:
        """Whether there is a reading to tell the time by."""
        return self._origin is not None

    def at(self, index: int) -> SampleTime:
        """Return when sample `index` was captured. Raises `ValueError` before the first reading."""
        if self._origin is None:
            raise ValueError("no clock reading yet")
        origin = self._origin.captured_at
        x = (index - self._origin.index) / self._rate
        if self._origin.exact:
            return SampleTime(origin.unix_ns + round(x * 1e9), 0, 0.0)
        if self._line is None:
            complete = not self._groups or len(self._group) >= MIN_READINGS
            self._line = Line([*self._groups, summarise(self._group)] if complete else [*self._groups])
        excess, error = self._line.at(x)
        error = max(error, MIN_ERROR_S + self._late(x, excess))
        steady_ns = origin.steady_ns + round((x + excess) * 1e9)
        error_ns = round(error * 1e9)
        offset_ns = self._offsets.at(steady_ns)
        low_ns, high_ns = self._offsets.between(steady_ns - error_ns, steady_ns + error_ns)
        error_ns += max(high_ns - offset_ns, offset_ns - low_ns)
        return SampleTime(steady_ns + offset_ns, error_ns, (1 / (1 + self._line.tilt) - 1) * 1e6)

    def _keep_close(self, x: float, excess: float) -> None:
        """Keep a reading that is not used for the line. Several in a row are kept as one: the first sample, the last delay.

        Of the least delays from each of their samples on, that from the last one on is the largest.
        """
        last = self._recent[-1][0]
        if last > self._group[-1][0]:
            self._recent[-1] = (last, excess)
        else:
            self._recent.append((x, excess))

    def _late(self, x: float, excess: float) -> float:
        """Return the seconds by which every reading of the sample's block and after it is later than the line; 0 for few.

        Samples older than the recent readings are covered by the groups.
        """
        if x < self._recent[0][0]:
            return 0.0
        before = max((reading for reading in self._recent if reading[0] <= x), default=self._recent[0])
        late = min(reading for at, reading in self._recent if at >= before[0]) - excess
        return late if late > OUTLIER_S else 0.0


class StepDetector:
    """Detects that wall time jumped against the steady clock: the machine slept, or the clock was set."""

    def __init__(self, tolerance_ns: int = MIN_STEP_NS) -> None:
        self._tolerance = tolerance_ns
        self._offset: int | None = None

    def step_ns(self, clocks: ClockPair) -> int:
        """Return the nanoseconds that wall time jumped by since the last call; 0 within tolerance, as slewing is."""
        last, self._offset = self._offset, clocks.offset_ns
        if last is None or abs(self._offset - last) <= self._tolerance:
            return 0
        return self._offset - last
