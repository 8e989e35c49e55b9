"""A span of a stream as few numbers as pixels can show: novelty, levels, and the mean direction of each stretch of time.

Novelty is that of `mertd.memory.changes`: how much four windows differ from the four before them. It is divided by the variance
of the span, so 1 is as much as between two random moments of it. Windows are looked at as they are read, and not kept.

Rules of this file: no I/O; pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mertd.memory.changes.detector import HALF, STEPS_A_WINDOW
from mertd.memory.changes.novelty import side_weights

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK = 256
"""Directions whose novelty is computed at once: they fit into the cache of a core."""

AROUND = 2 * HALF - 1
"""Windows that a value of novelty needs besides its own."""

MIN_VARIANCE = 1e-4
"""Least variance that novelty is divided by: a tone that never changes has none."""

GAP_STEPS = 2.5
"""How many times the usual distance two windows are apart when something lies between them that was not heard."""


@dataclass(frozen=True)
class Windows:
    """Windows of one stream in order of time. All arrays have one length."""

    run: Ints  # differs where sample numbers do not belong together
    first: Ints  # number of the first sample
    length: Ints  # samples
    start_ns: Ints
    end_ns: Ints
    rms_dbfs: Floats
    directions: Floats  # (n, size), of length 1

    def __len__(self) -> int:
        return len(self.start_ns)

    def take(self, rows: NDArray[np.bool_]) -> Windows:
        """Return some of them."""
        if rows.all():
            return self
        return Windows(*(getattr(self, name)[rows] for name in Windows.__dataclass_fields__))

    @property
    def middle_ns(self) -> Ints:
        return (self.start_ns + self.end_ns) // 2


@dataclass
class SpanSketch:
    """What was looked at of the time [since, until), in `pixels` parts of equal length.

    Attributes:
        count: windows that were looked at.
    """

    since_ns: int
    until_ns: int
    pixels: int
    count: int = 0
    _sums: Floats | None = None  # of the directions of each pixel
    _counts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    _levels: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    _times: list[Ints] = field(default_factory=list)
    _novelty: list[Floats] = field(default_factory=list)
    _last: Windows | None = None  # the windows before the next block, as many as novelty needs

    def add(self, block: Windows) -> None:
        """Look at windows that follow on the last ones. Of those that begin within one step, only the first is used."""
        block = block.take(_used(block, self._last))
        if not len(block):
            return
        self.count += len(block)
        self._add_to_pixels(block)
        joined = block if self._last is None else _joined(self._last, block)
        if len(joined) > AROUND:
            self._times.append(_between(joined))
            self._novelty.append(novelty_of(joined))
        self._last = joined.take(np.arange(len(joined)) >= len(joined) - AROUND)

    def line(self) -> tuple[Ints, Floats]:
        """Return the highest novelty in each pixel, where there is one: when it is, and how high."""
        if not self._times:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        times, values = np.concatenate(self._times), np.concatenate(self._novelty)
        known = np.isfinite(values) & (times >= self.since_ns) & (times < self.until_ns)
        times, values = times[known], values[known]
        places = self._pixel(times)
        scaled = values / self.variance
        order = np.lexsort((-scaled, places))
        highest = order[np.unique(places[order], return_index=True)[1]]
        return times[highest], scaled[highest].astype(np.float32)

    def levels(self) -> Floats:
        """Return the highest level in each pixel, (pixels,); NaN where nothing was heard."""
        return self._levels if len(self._levels) else np.full(self.pixels, np.nan, np.float32)

    def means(self) -> tuple[Floats, Ints]:
        """Return the mean direction of each pixel, (pixels, size), and of how many windows it is; zeros for none."""
        if self._sums is None:
            return np.zeros((self.pixels, 0), np.float32), np.zeros(self.pixels, np.int64)
        return np.asarray(self._sums / np.maximum(self._counts, 1)[:, None], np.float32), self._counts

    def _add_to_pixels(self, block: Windows) -> None:
        if self._sums is None:
            self._sums = np.zeros((self.pixels, block.directions.shape[1]), np.float32)
            self._counts = np.zeros(self.pixels, np.int64)
            self._levels = np.full(self.pixels, np.nan, np.float32)
        places = self._pixel(block.middle_ns)
        changes = np.flatnonzero(np.diff(places, prepend=-1))
        np.add.at(self._sums, places[changes], np.add.reduceat(block.directions, changes, axis=0))
        np.add.at(self._counts, places[changes], np.diff(changes, append=len(places)))
        np.fmax.at(self._levels, places[changes], np.fmax.reduceat(block.rms_dbfs, changes))

    def _pixel(self, times: Ints) -> Ints:
        share = (times - self.since_ns) / max(self.until_ns - self.since_ns, 1)
        return np.clip((share * self.pixels).astype(np.int64), 0, self.pixels - 1)

    @property
    def variance(self) -> float:
        """The variance of the directions: half of the mean squared distance between two of them."""
        if self._sums is None or not self.count:
            return 1.0
        mean = self._sums.sum(axis=0, dtype=np.float64) / self.count
        return max(1.0 - float(np.square(mean).sum()), MIN_VARIANCE)


def novelty_of(windows: Windows) -> Floats:
    """Return the novelty between windows, (n - AROUND,), the first value in the middle of the first eight; NaN beside a gap."""
    weights = side_weights(HALF).astype(np.float32)
    heard, end = windows.directions, len(windows) - AROUND
    found = np.empty(end, np.float32)
    for begin in range(0, end, BLOCK):
        part = heard[begin : min(begin + BLOCK, end) + AROUND]
        size = len(part) - AROUND
        difference = weights[0] * part[:size]
        for place in range(1, 2 * HALF):
            difference += weights[place] * part[place : place + size]
        found[begin : begin + size] = 0.5 * np.einsum("ij,ij->i", difference, difference)
    gaps = np.concatenate([[0], np.cumsum(_gaps(windows))])
    found[gaps[AROUND : AROUND + end] - gaps[:end] > 0] = np.nan
    return found


def _gaps(windows: Windows) -> NDArray[np.bool_]:
    """Return for each pair of neighbours whether something lies between them that was not heard."""
    distance = np.diff(windows.first)
    usual = np.median(distance[distance > 0]) if (distance > 0).any() else 0
    far = (distance > np.maximum(windows.length[1:], GAP_STEPS * usual)) | (distance <= 0)
    return np.asarray(far | (np.diff(windows.run) != 0))


def _used(block: Windows, last: Windows | None) -> NDArray[np.bool_]:
    """Return which windows begin a step: as the detection of changes does it, so that a short hop is no longer quieter."""
    steps = block.first * STEPS_A_WINDOW // np.maximum(block.length, 1)
    before = (last.run[-1], last.first[-1] * STEPS_A_WINDOW // max(last.length[-1], 1)) if last is not None else (-1, -1)
    new = np.diff(steps, prepend=before[1]) > 0
    return np.asarray(new | (np.diff(block.run, prepend=before[0]) != 0))


def _between(windows: Windows) -> Ints:
    """Return when each value of novelty is: in the middle between the windows on its two sides."""
    middles = windows.middle_ns
    count = len(windows) - AROUND
    return (middles[HALF - 1 : HALF - 1 + count] + middles[HALF : HALF + count]) // 2


def _joined(before: Windows, after: Windows) -> Windows:
    names = Windows.__dataclass_fields__
    return Windows(*(np.concatenate([getattr(before, name), getattr(after, name)]) for name in names))
