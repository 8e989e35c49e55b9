"""When a sample was heard: the map from sample index to Unix time.

Rules of this file: no clock is read here. Readings come in, pairs of a sample index and the Unix time at which the host says it
was heard; a straight line through the recent ones comes out. Each reading is uncertain by milliseconds (buffers, scheduling),
the line much less.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

DRIFT_PRIOR_PPM = 20.0
"""Expected size of a sound card's drift: crystals are specified to 20-100 ppm."""

JITTER_PRIOR_S = 0.005
"""Expected scatter of readings. With the drift prior it decides how long the slope stays near nominal: seconds of readings
cannot tell 20 ppm from jitter, minutes can."""


ASTRAY_S, ASTRAY_DEVIATIONS = 0.05, 6
"""A reading this far from the median one, in seconds and in median absolute deviations, is not believed: sound servers misjudge
their buffers by hundreds of milliseconds in the first second."""


@dataclass(frozen=True)
class Reading:
    """Sample `index` was heard at `unix_ns`, says the host."""

    index: float
    unix_ns: int


@dataclass(frozen=True)
class Moment:
    """Unix time of one sample. `error_ns`: largest distance of any recent reading from the line; beyond it lies only what the
    host itself may be wrong by. `drift_ppm`: how much faster (+) than nominal the source's clock runs against the host's.
    """

    unix_ns: int
    error_ns: int
    drift_ppm: float


class Clock:
    """The timeline of one epoch of one stream, at `rate` samples per second."""

    def __init__(self, rate: int, memory_s: float = 120.0, spacing_s: float = 0.1) -> None:
        """Readings are kept for `memory_s`, and one per `spacing_s` is enough."""
        self._rate, self._memory, self._spacing = rate, memory_s * rate, spacing_s * rate
        self._readings: deque[Reading] = deque()
        self._line: tuple[Reading, float, float, float] | None = None

    def add(self, reading: Reading) -> None:
        """Take note of a reading; indexes never fall."""
        if self._readings and reading.index - self._readings[-1].index < self._spacing:
            return
        self._readings.append(reading)
        while reading.index - self._readings[0].index > self._memory:
            self._readings.popleft()
        self._line = None

    @property
    def known(self) -> bool:
        """Whether there is any reading to tell the time by."""
        return bool(self._readings)

    def at(self, index: int) -> Moment:
        """When sample `index` was heard. Raises `ValueError` before the first reading."""
        if self._line is None:
            self._line = self._fit()
        origin, offset, slope, error = self._line
        seconds = offset + (index - origin.index) / self._rate * slope
        return Moment(origin.unix_ns + round(seconds * 1e9), round(error * 1e9), (1 / slope - 1) * 1e6)

    def _fit(self) -> tuple[Reading, float, float, float]:
        """Least squares for unix = offset + nominal * slope, with a Gaussian prior on slope - 1 (ridge regression), over the
        readings that are not astray.

        Returns the reading that the numbers are relative to (so that floats keep nanoseconds), offset in seconds, slope, error.
        """
        if not self._readings:
            raise ValueError("no clock reading yet")
        origin = self._readings[0]
        nominal = np.array([(r.index - origin.index) / self._rate for r in self._readings])
        excess = np.array([(r.unix_ns - origin.unix_ns) / 1e9 for r in self._readings]) - nominal
        astray = np.abs(excess - np.median(excess))
        believed = astray <= max(ASTRAY_S, ASTRAY_DEVIATIONS * float(np.median(astray)))
        nominal, excess = nominal[believed], excess[believed]
        centred = nominal - nominal.mean()
        ridge = (JITTER_PRIOR_S / (DRIFT_PRIOR_PPM * 1e-6)) ** 2
        tilt = float((centred * (excess - excess.mean())).sum() / ((centred**2).sum() + ridge))
        offset = float(excess.mean() - tilt * nominal.mean())
        error = float(np.abs(excess - offset - tilt * nominal).max())
        return origin, offset, 1 + tilt, error


class StepDetector:
    """Notices that wall time jumped against monotonic time: the machine slept, or somebody set the clock."""

    def __init__(self, tolerance_ns: int = 250_000_000) -> None:
        self._tolerance = tolerance_ns
        self._offset: int | None = None

    def stepped(self, unix_ns: int, monotonic_ns: int) -> int:
        """Nanoseconds that wall time has jumped by since the last call; 0 when within tolerance, as slow slewing is."""
        offset, last = unix_ns - monotonic_ns, self._offset
        self._offset = offset
        if last is None or abs(offset - last) <= self._tolerance:
            return 0
        return offset - last
