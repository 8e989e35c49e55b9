"""A straight line through clock readings, with a bound on its error: the drift of a source's clock against the host's.

Rules of this file: no clock, no state that changes. x is nominal time, the sample index divided by the nominal rate, in seconds
since the first reading. y is steady time less nominal time.

A reading tells when a sample was *delivered*, less the age that the driver reports. Scheduling only ever makes it later: by 2-5
ms on average and 200 ms at times, and an average of readings is late with them. Therefore readings are grouped by the second,
and of each group the LOW_QUANTILE counts: with 20 readings it is a few tenths of a millisecond late, and one early reading does
not move it. Groups far from the majority are left out (sound servers misjudge their buffers in the first second). The others
give a line by ridge regression, with a prior of DRIFT_PRIOR_PPM on the drift.

**The bound on the error** is the sum of these terms, each larger than the error it covers:

    MIN_ERROR_S       The remaining delay of the best readings, and quantisation.
    spread            Median less low quantile of a group, for 9 groups in 10. If all delays are late and their mode is near 0
                      (exponential, uniform), the low quantile is nearer to the truth than to the median; if errors go both
                      ways, the truth is near the median.
    scatter, local    The larger of two. Three times the rms distance of the low quantiles from the line: for groups of one
                      reading, whose rms equals the mean of an exponential delay, is less if another delay is added, and is
                      itself an estimate. And the distance of the groups next to the sample from the line, left out or not:
                      they may be right. Of the first group the earliest reading counts, too: if the source paused just after
                      it, the low quantile is that of the samples after the pause, and there is no group before it.
    3 sigma           sigma^2 (1/n + (x - mean)^2 / (Sxx + ridge)): grows beyond the readings, and covers the pull of the prior
                      on any drift up to 3 DRIFT_PRIOR_PPM.
    bend              The drift changes: half of DRIFT_CHANGE_PPM_PER_H times the square of the distance to the readings.
    start             START_ERROR_S while there are fewer than MIN_GROUPS groups, of which outliers cannot be told apart, or
                      fewer than MIN_TOTAL_READINGS readings, from which no spread can be estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP_S = 1.0
"""Seconds of readings in a group."""

LOW_QUANTILE = 0.1
"""The quantile of a group's delays that counts."""

MIN_READINGS = 10
"""Readings from which on the latest, incomplete group is used."""

DRIFT_PRIOR_PPM = 100.0
"""Standard deviation of the prior on the drift, in parts per million."""

JITTER_S = 0.001
"""Expected scatter of a group's low quantile, in seconds: decides how long the slope stays near nominal."""

PRIOR_S = JITTER_S / (DRIFT_PRIOR_PPM * 1e-6)
"""Seconds: the prior weighs as much as two groups at this distance which show no drift."""

SPREADS_PER_SIGMA = 4
"""The low quantile of 20 delays, exponential or uniform, scatters by an eighth to a sixth of their spread. Of few groups, which
any line fits, nothing else tells by how much."""

MAX_DRIFT = 1e-3
"""Steepest slope that is believed: no oscillator drifts more, but a driver's first readings may."""

OUTLIER_S = 0.02
"""Seconds from the median group within which a group is never left out."""

OUTLIER_DEVIATIONS = 6
"""Median absolute deviations from the median group within which a group is never left out."""

MIN_ERROR_S = 0.002
"""Seconds: the smallest bound."""

DRIFT_CHANGE_PPM_PER_H = 20.0
"""Change of the drift in parts per million an hour, at most."""

START_ERROR_S = 0.5
"""Seconds added to the bound while there are too few readings."""

MIN_GROUPS = 4
"""Groups from which on outliers can be told apart."""

MIN_TOTAL_READINGS = 30
"""Readings from which on their spread can be estimated."""

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The readings of one second."""

    x: float  # mean nominal time
    earliest: float  # lowest y
    low: float  # LOW_QUANTILE of y
    median: float  # of y; the upper one of two, without which two readings would have no spread
    readings: int


def summarise(readings: list[tuple[float, float]]) -> Group:
    """Return the group of these readings (x, y)."""
    excess = sorted(y for _, y in readings)
    last = len(readings) - 1
    return Group(
        sum(x for x, _ in readings) / len(readings),
        excess[0],
        excess[int(LOW_QUANTILE * last)],
        excess[len(readings) // 2],
        len(readings),
    )


class Line:
    """y = offset + tilt * x, and its error bound."""

    def __init__(self, groups: list[Group]) -> None:
        """Fit to at least one group."""
        self._x = np.array([group.x for group in groups])
        low = np.array([group.low for group in groups])
        median = np.array([group.median for group in groups])
        used = _inliers(self._x, low)
        x, y = self._x[used], low[used]
        self._mean = x.mean()
        self._variation = ((x - self._mean) ** 2).sum() + PRIOR_S**2
        tilt = float(((x - self._mean) * (y - y.mean())).sum() / self._variation)
        self.tilt = min(max(tilt, -MAX_DRIFT), MAX_DRIFT)
        self._offset = float(y.mean() - self.tilt * self._mean)
        residuals = y - self._offset - self.tilt * x
        scatter = float(np.sqrt(np.square(residuals).mean()))
        spread = float(np.quantile(median[used] - y, 0.9, method="higher"))
        self._sigma = max(scatter, spread / SPREADS_PER_SIGMA, JITTER_S)
        self._count = len(x)
        starting = len(groups) < MIN_GROUPS or sum(group.readings for group in groups) < MIN_TOTAL_READINGS
        self._least = MIN_ERROR_S + spread + (START_ERROR_S if starting else 0.0)
        self._scatter = scatter
        self._deviations = np.abs(low - self._offset - self.tilt * self._x)
        early = self._offset + self.tilt * float(self._x[0]) - groups[0].earliest
        self._deviations[0] = max(self._deviations[0], early)

    def at(self, x: float) -> tuple[float, float]:
        """Return y at `x`, and the bound on its error, in seconds."""
        sigma = self._sigma * np.sqrt(1 / self._count + (x - self._mean) ** 2 / self._variation)
        beyond = max(0.0, self._x[0] - x, x - self._x[-1])
        bend = 0.5 * DRIFT_CHANGE_PPM_PER_H * 1e-6 / 3600 * beyond**2
        after = int(np.searchsorted(self._x, x))
        local = self._deviations[max(0, after - 2) : after + 2].max()
        return self._offset + self.tilt * x, self._least + max(3 * self._scatter, float(local)) + 3 * float(sigma) + bend


def _inliers(x: Seconds, low: Seconds) -> NDArray[np.bool_]:
    """Return which groups are near the majority.

    A robust slope is removed first: the median slope of the pairs of groups that are half of all groups apart, weighted by
    their distance, as close groups tell little. The prior votes for no slope, as in the regression.
    """
    half = max(1, len(x) // 2)
    weights = np.append(x[half:] - x[: len(x) - half], PRIOR_S)
    slopes = np.append(low[half:] - low[: len(x) - half], 0.0) / weights
    order = np.argsort(slopes)
    cumulated = np.cumsum(weights[order])
    tilt = slopes[order[np.searchsorted(cumulated, cumulated[-1] / 2)]]
    level = low - x * np.clip(tilt, -MAX_DRIFT, MAX_DRIFT)
    deviation = np.abs(level - np.median(level))
    return np.asarray(deviation <= max(OUTLIER_S, OUTLIER_DEVIATIONS * float(np.median(deviation))))
