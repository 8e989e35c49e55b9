"""The lag of a run, finer than the distance of windows, how far off it may be, and whether it drifts.

Similarity falls off on both sides of the true lag. Pairs of windows sample it at the few lags that two streams have; a triangle
is fitted to these. How far off that may be is taken from parts of the run, which each get a lag of their own.

Rules of this file: no I/O, no clock, no random numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.memory.across.track import Track
from mertd.memory.similarity.vector_segment import Ints

PARTS = 12
"""Parts into which a run is divided at most."""

MIN_WINDOWS = 8
"""Fewest windows in a part."""

FINE_STEPS = 64
"""Lags that are tried in a step between windows."""

WIDTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Half widths of the triangle that are tried, in steps."""

RESOLUTION = 0.5
"""Least bound, in steps between windows: how far the best of the sampled lags may lie from the true one."""

SIGMAS = 3.0
"""Standard errors that a bound covers, and that a drift must reach to be told."""


@dataclass(frozen=True)
class Lag:
    """How much later the second stream hears it. `drift_ppm`: by how much that grows, if it can be told from none."""

    lag_ns: int  # in the middle of the run
    bound_ns: int
    drift_ppm: float | None
    similarity: float  # mean over the run at the best of the sampled lags


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of windows near a lag: arrays of one length."""

    time_ns: Ints  # middle of the first window
    lag_ns: Ints
    similarity: NDArray[np.float64]

    def take(self, rows: NDArray[np.bool_]) -> Pairs:
        """Return some of them."""
        return Pairs(self.time_ns[rows], self.lag_ns[rows], self.similarity[rows])


def estimate(one: Track, other: Track, course: NDArray[np.int64], step_ns: int) -> Lag | None:
    """Return the lag of a run; None if there are too few windows.

    `course`: (n, 3), the beginning and end of each piece of the run on the first stream, and its lag in whole steps, all in ns.
    """
    pairs = _pairs(one, other, course, 3 * max(step_ns, one.window_ns // 2))
    begin, end = int(course[:, 0].min()), int(course[:, 1].max())
    if len(pairs.lag_ns) < 3:
        return None
    rough = _rough_lag(course, pairs.time_ns)
    offsets = pairs.lag_ns - rough
    width, offset, similarity = _fit(offsets, pairs.similarity, step_ns, WIDTHS)
    windows = len(np.unique(pairs.time_ns))
    count = max(1, min(PARTS, windows // MIN_WINDOWS))
    part = ((pairs.time_ns - begin) * count // max(end - begin, 1)).clip(0, count - 1)
    spare = max(1, one.window_ns // step_ns)  # steps by which a drift may have moved a part
    times, lags = [], []
    for number in range(count):
        rows = part == number
        if rows.sum() >= 3:
            _, own, _ = _fit(offsets[rows], pairs.similarity[rows], step_ns, (width,), offset, spare)
            middle = float(pairs.time_ns[rows].mean())
            times.append(middle - (begin + end) / 2)
            lags.append(own + float(_rough_lag(course, np.array([int(middle)]))[0]))
    centre = float(_rough_lag(course, np.array([(begin + end) // 2]))[0]) + offset
    error, slope, slope_error = _spread(np.array(times), np.array(lags), step_ns)
    clocks = _worst_error(one, begin, end) + _worst_error(other, begin + int(centre), end + int(centre))
    drifts = slope_error is not None and abs(slope) > SIGMAS * slope_error and abs(slope) * (end - begin) > step_ns * RESOLUTION
    return Lag(
        lag_ns=round(centre),
        bound_ns=math.ceil(RESOLUTION * step_ns + SIGMAS * error) + clocks,
        drift_ppm=round(slope * 1e6, 1) if drifts else None,
        similarity=round(similarity, 4),
    )


def _pairs(one: Track, other: Track, course: NDArray[np.int64], reach_ns: int) -> Pairs:
    """Return the pairs of windows whose lag is near that of the run there."""
    usable_one, usable_other = one.usable, other.usable
    hop_ns = other.hop_ns
    found: list[Pairs] = []
    for begin, end, lag in course.tolist():
        rows = np.flatnonzero((one.middle_ns >= begin) & (one.middle_ns < end) & usable_one)
        nearest = np.searchsorted(other.middle_ns, one.middle_ns[rows] + lag)
        around = min(len(other), reach_ns // hop_ns + 1)
        for offset in range(-around, around + 1):
            there = nearest + offset
            inside = there.clip(0, len(other) - 1)
            lags = other.middle_ns[inside] - one.middle_ns[rows]
            near = (inside == there) & (np.abs(lags - lag) <= reach_ns) & usable_other[inside]
            own, its = rows[near], inside[near]
            similarity = np.einsum("ij,ij->i", one.details[own], other.details[its]).astype(np.float64)
            found.append(Pairs(one.middle_ns[own], lags[near], similarity))
    return Pairs(*(np.concatenate([getattr(part, name) for part in found]) for name in ("time_ns", "lag_ns", "similarity")))


def _rough_lag(course: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lag of the piece of the run in which each time lies, or of the nearest one."""
    order = np.argsort(course[:, 0], kind="stable")
    piece = np.searchsorted(course[order, 0], times, "right").clip(1) - 1
    return np.asarray(course[order, 2][piece], np.int64)


def _fit(
    offsets: NDArray[np.int64],
    similarity: NDArray[np.float64],
    step_ns: int,
    widths: tuple[float, ...],
    near: float = 0.0,
    reach: int = 1,
) -> tuple[float, float, float]:
    """Return of the triangle that fits best: half width in steps, peak in ns, similarity at the best sampled lag.

    `near`, `reach`: where the peak is looked for, in ns, and steps either way.
    """
    bins, where = np.unique(np.round(offsets * (FINE_STEPS / step_ns)).astype(np.int64), return_inverse=True)
    counts = np.bincount(where).astype(np.float64)
    means = np.bincount(where, similarity) / counts
    sampled = bins * (step_ns / FINE_STEPS)
    total = counts.sum()
    values = means - (counts @ means) / total
    peaks = near + np.arange(-reach * FINE_STEPS, reach * FINE_STEPS + 1) * (step_ns / FINE_STEPS)
    best = (-np.inf, widths[0], near)
    for width in widths:
        shape = np.maximum(0, 1 - np.abs(sampled[None] - peaks[:, None]) / (width * step_ns))
        shape -= (shape @ counts / total)[:, None]
        power = np.square(shape) @ counts
        product = shape @ (values * counts)
        explained = np.where((product > 0) & (power > 0), product * np.abs(product) / np.maximum(power, 1e-12), -np.inf)
        at = int(np.argmax(explained))
        if explained[at] > best[0]:
            best = (float(explained[at]), width, float(peaks[at]))
    weighty = counts * 4 >= np.median(counts)
    return best[1], best[2], float(means[weighty].max())


def _spread(times: NDArray[np.float64], lags: NDArray[np.float64], step_ns: int) -> tuple[float, float, float | None]:
    """Return the standard error of the lag, its slope, and the error of that (None if it is not known)."""
    if len(lags) < 3:
        return step_ns / 2, 0.0, None
    power = float(np.square(times - times.mean()).sum())
    slope = float((times - times.mean()) @ (lags - lags.mean())) / power if power else 0.0
    left = lags - lags.mean() - slope * (times - times.mean())
    noise = max(math.sqrt(float(np.square(left).sum()) / max(len(lags) - 2, 1)), step_ns / FINE_STEPS)
    return noise / math.sqrt(len(lags)), slope, noise / math.sqrt(power) if power else None


def _worst_error(track: Track, begin_ns: int, end_ns: int) -> int:
    """Return the largest bound of the times of windows within a time."""
    inside = (track.middle_ns >= begin_ns) & (track.middle_ns < end_ns)
    return int(track.error_ns[inside].max(initial=0))
