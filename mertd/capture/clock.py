"""When a sample was heard: the map from sample index to Unix time, and how far it can be off.

Rules of this file: no clock is read here. Readings come in: a sample index, and when the host says that it was heard.

The map has two parts, because wall time is set and slewed while crystals are not:

    sample index ─► steady time   a straight line, fitted to the readings: two crystals, whose ratio changes by ppm an hour
    steady time  ─► Unix time     noted with every reading, exactly: whatever NTP or a person did, it is followed

**The line.** A reading says when the sample was *handed over*, less what the driver says of its age. Scheduling only ever makes
that late: by 2-5 ms in the mean, by 200 ms at times, and the mean of readings is late with them. So readings are grouped by
the second, and of each group the `LOW` quantile counts: with 20 readings it is some tenths of a millisecond late, and one that
is early does not move it. Groups that are astray of the majority (sound servers misjudge their buffers in the first second) are
left out; the rest gives a line by ridge regression, with a prior of `DRIFT_PPM` on the drift.

**The bound** is the sum of these, each larger than what it stands for:

    FLOOR_S           what is left of the delay in the best readings, and of quantisation
    spread            median - low quantile of a group, for 9 groups in 10. Of delays that are all late and have their mode
                      near 0 (exponential, uniform), the low quantile is nearer to the truth than to the median; for errors to
                      both sides, the truth is near the median
    scatter           2 rms of the low quantiles about the line: for groups of one reading, whose rms equals the mean of an
                      exponential delay
    3 σ of the line   σ² (1/n + (x - mean)² / (Sxx + ridge)): grows beyond the readings, and covers the prior's pull on any
                      drift up to 3 `DRIFT_PPM`
    wander            the line bends: half of `WANDER_PPM_H` times the square of the distance to the readings
    local             where groups next to the sample stand off the line, believed or not: they may be right
    young             `YOUNG_S` while there are less than `YOUNG_GROUPS` groups, since the first ones cannot be told from astray
                      ones, or less than `YOUNG_READINGS` readings, from which no spread can be judged
    late              by how much the readings from the sample on are all late, while they are too few for a group: the source
                      may have paused for so long, without catching up
    step              what wall time moved by against the steady clock between the notes before and after the sample, and
                      `SLEW` beyond the last note

What no reading shows is not in it: a constant delay between the microphone and the converter that the driver does not tell.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.capture.instant import Instant

GROUP_S, LOW, ENOUGH, RECENT = 1.0, 0.1, 10, 40
"""Readings are grouped by so many seconds; the quantile that counts; readings that make the last group worth believing; as many
are kept singly."""

DRIFT_PPM, JITTER_S = 100.0, 0.001
"""Prior of the drift, and expected scatter of a group's low quantile: how long the slope stays near nominal."""

LIMIT = 1e-3
"""No crystal drifts by more; a steeper line follows a driver's first mistakes."""

ASTRAY_S, ASTRAY_DEVIATIONS = 0.02, 6
"""A group this far from the median one, in seconds and in median absolute deviations, is left out."""

FLOOR_S, WANDER_PPM_H, SLEW = 0.002, 20.0, 500e-6
YOUNG_S, YOUNG_GROUPS, YOUNG_READINGS = 0.5, 4, 30
STEP_NS = 250_000_000
"""Wall time that jumps by more begins a new epoch; by less, it is followed."""


@dataclass(frozen=True)
class Reading:
    """Sample `index` was heard at `heard`, says the host, which noted both clocks `age_ns` later.

    `exact`: by definition, as in a recording, which has no clock but its nominal rate. `before`: with the first reading of an
    epoch, both clocks before anything in it was heard.
    """

    index: float
    heard: Instant
    age_ns: int = 0
    exact: bool = False
    before: Instant | None = None


@dataclass(frozen=True)
class Moment:
    """Unix time of one sample. `error_ns`: it was not heard further from that than this.

    `drift_ppm`: how much faster (+) than nominal the source's clock runs against the host's crystal.
    """

    unix_ns: int
    error_ns: int
    drift_ppm: float


@dataclass(frozen=True)
class _Group:
    """One second of readings. `x`, `low`, `middle` in seconds, relative to the first reading: nominal time of the group's mean
    index; quantiles of steady time less nominal time.
    """

    x: float
    low: float
    middle: float
    readings: int


class _Line:
    """steady - nominal = offset + tilt * x, and its bound. `x` is nominal time."""

    def __init__(self, groups: list[_Group]) -> None:
        table = np.array([(g.x, g.low, g.middle) for g in groups])
        self._x, low, middle = table.T
        believed = _believed(self._x, low)
        x, y = self._x[believed], low[believed]
        self._mean, ridge = x.mean(), (JITTER_S / (DRIFT_PPM * 1e-6)) ** 2
        self._variation = ((x - self._mean) ** 2).sum() + ridge
        tilt = float(((x - self._mean) * (y - y.mean())).sum() / self._variation)
        self.tilt = min(max(tilt, -LIMIT), LIMIT)
        self._offset = float(y.mean() - self.tilt * self._mean)
        residuals = y - self._offset - self.tilt * x
        scatter = float(np.sqrt(np.square(residuals).mean()))
        spread = float(np.quantile(middle[believed] - y, 0.9))
        self._sigma, self._count = max(scatter, JITTER_S), len(x)
        young = len(groups) < YOUNG_GROUPS or sum(g.readings for g in groups) < YOUNG_READINGS
        self._common = FLOOR_S + spread + 2 * scatter + (YOUNG_S if young else 0.0)
        self._astray = np.abs(low - self._offset - self.tilt * self._x)

    def at(self, x: float) -> tuple[float, float]:
        """Seconds that sample time exceeds nominal time by, and how far that may be off."""
        sigma = self._sigma * np.sqrt(1 / self._count + (x - self._mean) ** 2 / self._variation)
        beyond = max(0.0, self._x[0] - x, x - self._x[-1])
        wander = 0.5 * WANDER_PPM_H * 1e-6 / 3600 * beyond**2
        after = int(np.searchsorted(self._x, x))
        local = self._astray[max(0, after - 2) : after + 2].max()
        return self._offset + self.tilt * x, max(self._common, FLOOR_S + local) + 3 * float(sigma) + wander


class Clock:
    """The timeline of one epoch of one stream, at `rate` samples per second."""

    def __init__(self, rate: int, memory_s: float = 300.0, spacing_s: float = 0.045) -> None:
        """`memory_s`: the oldest sample that will be asked for. One reading per `spacing_s` is enough."""
        self._rate, self._memory_s, self._spacing = rate, memory_s, spacing_s * rate
        self._origin: Reading | None = None
        self._last = 0.0
        self._group: list[tuple[float, float]] = []  # x, steady - nominal
        self._groups: deque[_Group] = deque()
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)  # the same, whatever their group
        self._notes: deque[Instant] = deque()  # what wall time was, when
        self._line: _Line | None = None

    def add(self, reading: Reading) -> None:
        """Take note of a reading; indexes never fall."""
        if self._origin is None or reading.exact:
            self._origin = reading
        elif reading.index - self._last < self._spacing:
            return
        self._last, self._line = reading.index, None
        if reading.exact:
            return
        origin = self._origin
        x = (reading.index - origin.index) / self._rate
        if self._group and x - self._group[0][0] >= GROUP_S:
            self._groups.append(_summary(self._group))
            self._group = []
        self._group.append((x, (reading.heard.steady_ns - origin.heard.steady_ns) / 1e9 - x))
        self._recent.append(self._group[-1])
        while self._groups and x - self._groups[0].x > self._memory_s:
            self._groups.popleft()
        if reading.before:
            self._note(reading.before)
        self._note(reading.heard.before(-reading.age_ns))

    @property
    def known(self) -> bool:
        """Whether there is any reading to tell the time by."""
        return self._origin is not None

    def at(self, index: int) -> Moment:
        """When sample `index` was heard. Raises `ValueError` before the first reading."""
        if self._origin is None:
            raise ValueError("no clock reading yet")
        x, heard = (index - self._origin.index) / self._rate, self._origin.heard
        if self._origin.exact:
            return Moment(heard.unix_ns + round(x * 1e9), 0, 0.0)
        if self._line is None:
            whole = not self._groups or len(self._group) >= ENOUGH
            self._line = _Line([*self._groups, _summary(self._group)] if whole else [*self._groups])
        excess, error = self._line.at(x)
        error = max(error, FLOOR_S + self._late(x, excess))
        steady_ns = heard.steady_ns + round((x + excess) * 1e9)
        offset_ns, step_ns = self._offset(steady_ns)
        return Moment(steady_ns + offset_ns, round(error * 1e9) + step_ns, (1 / (1 + self._line.tilt) - 1) * 1e6)

    def _late(self, x: float, excess: float) -> float:
        """Seconds by which no reading of the block with the sample, or after it, is as early as the line says; 0 for few.

        For older samples than the recent ones, the groups tell.
        """
        if x < self._recent[0][0]:
            return 0.0
        before = max((reading for reading in self._recent if reading[0] <= x), default=self._recent[0])
        late = min(reading for at, reading in self._recent if at >= before[0]) - excess
        return late if late > ASTRAY_S else 0.0

    def _note(self, instant: Instant) -> None:
        """Keep what wall time was: once a second, and on both sides of a step."""
        notes = self._notes
        if notes and instant.steady_ns <= notes[-1].steady_ns:
            return
        if len(notes) > 1:
            before, last = notes[-2], notes[-1]
            steady = abs(instant.offset_ns - last.offset_ns) < 1e6 and abs(last.offset_ns - before.offset_ns) < 1e6
            if steady and instant.steady_ns - before.steady_ns < GROUP_S * 1e9:
                notes.pop()
        notes.append(instant)
        while len(notes) > 2 and instant.steady_ns - notes[1].steady_ns > self._memory_s * 1.001e9:
            notes.popleft()

    def _offset(self, steady_ns: int) -> tuple[int, int]:
        """Wall time less steady time at `steady_ns`, and how far that may be off."""
        notes = self._notes
        at = bisect_left(notes, steady_ns, key=lambda note: note.steady_ns)
        if 0 < at < len(notes):
            a, b = notes[at - 1], notes[at]
            moved = b.offset_ns - a.offset_ns
            share = (steady_ns - a.steady_ns) / (b.steady_ns - a.steady_ns)
            return a.offset_ns + round(moved * share), abs(moved)
        nearest = notes[0] if at == 0 else notes[-1]
        return nearest.offset_ns, round(abs(steady_ns - nearest.steady_ns) * SLEW)


def _summary(readings: list[tuple[float, float]]) -> _Group:
    excess, last = sorted(excess for _, excess in readings), len(readings) - 1
    return _Group(sum(x for x, _ in readings) / len(readings), excess[int(LOW * last)], excess[last // 2], len(readings))


def _believed(x: NDArray[np.float64], low: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which groups are near the majority, after a robust slope (the median one of pairs that are half of all apart)."""
    half = len(x) // 2
    tilt = np.median((low[half:] - low[: len(x) - half]) / (x[half:] - x[: len(x) - half])) if half else 0.0
    level = low - x * np.clip(tilt, -LIMIT, LIMIT)
    astray = np.abs(level - np.median(level))
    return np.asarray(astray <= max(ASTRAY_S, ASTRAY_DEVIATIONS * float(np.median(astray))))


class StepDetector:
    """Notices that wall time jumped against the steady clock: the machine slept, or somebody set the clock."""

    def __init__(self, tolerance_ns: int = STEP_NS) -> None:
        self._tolerance = tolerance_ns
        self._offset: int | None = None

    def stepped(self, instant: Instant) -> int:
        """Nanoseconds that wall time has jumped by since the last call; 0 when within tolerance, as slow slewing is."""
        last, self._offset = self._offset, instant.offset_ns
        if last is None or abs(self._offset - last) <= self._tolerance:
            return 0
        return self._offset - last
