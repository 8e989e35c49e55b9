"""The windows of one stream as they differ from the sound around them, which is what two rooms with the same music share.

What lasts is taken out: what a room, a microphone and a model add to every window, and the style of a piece, by which two
pieces are alike for minutes. What is left is seen in directions that vary equally much, so that none drowns the others.

Rules of this file: no I/O, no clock, no random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.vector_segment import Floats, Ints

AROUND_WINDOWS = 4
"""Windows, end to end, on each side of one whose mean is taken out of it."""

MAX_DIRECTIONS = 128
"""Directions that are kept at most; a vector of a layer has 768."""

SHRINKAGE = 0.01
"""Share of the mean variance that is added to that of each direction, so that none that holds only rounding is blown up."""

ROUNDING = 2.0**-12
"""Root mean square error of a float16 number, relative to it, at most. What differs by little more is no detail."""

CHUNK_ROWS = 2_048
"""Windows that are looked at together."""

MIN_ROUNDINGS = 4.0
"""How far a window must differ from those around it, in rounding errors of its vector: a steady tone does not."""


@dataclass(frozen=True, eq=False)
class RawTrack:
    """The windows of one stream in one space, in order of time, with vectors as they were published."""

    middle_ns: Ints  # Unix time of the middle of each window
    error_ns: Ints  # bound of its error
    window_ns: int
    vectors: Floats  # (n, size)

    def __len__(self) -> int:
        return len(self.middle_ns)


@dataclass(frozen=True, eq=False)
class Track:
    """What is compared of a stream. A row of `details` has length 1, or 0 if nothing is known, or nothing differs, there."""

    middle_ns: Ints
    error_ns: Ints
    window_ns: int
    hop_ns: int  # usual distance of two windows
    details: Floats  # (n, directions)

    def __len__(self) -> int:
        return len(self.middle_ns)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether there is something to compare, for each window."""
        return np.asarray(self.details.any(axis=1), np.bool_)


def differences(track: RawTrack, first: int = 0, end: int | None = None) -> Floats:
    """Return some vectors minus the mean of those around each, (end - first, size).

    Rows that are not finite are zero, and in no mean.
    """
    end = len(track) if end is None else end
    reach_ns = AROUND_WINDOWS * track.window_ns
    asked = track.middle_ns[first:end]
    begins = np.searchsorted(track.middle_ns, asked - reach_ns, "left")
    ends = np.searchsorted(track.middle_ns, asked + reach_ns, "right")
    low, high = int(begins.min(initial=first)), int(ends.max(initial=end))
    around = track.vectors[low:high]
    finite = np.asarray(np.isfinite(around).all(axis=1), np.bool_)
    around = np.where(finite[:, None], around, 0).astype(np.float64)
    sums = np.zeros((len(around) + 1, around.shape[1]))
    np.cumsum(around, axis=0, out=sums[1:])
    counts = np.concatenate([[0], np.cumsum(finite)])
    begins, ends = begins - low, ends - low
    found = around[first - low : end - low]
    found -= (sums[ends] - sums[begins]) / np.maximum(counts[ends] - counts[begins], 1)[:, None]
    found[~finite[first - low : end - low]] = 0
    return found.astype(np.float32)


def directions(samples: Sequence[Floats]) -> Floats:
    """Return directions, (size, directions), in which differences like these, (n, size) each, vary equally much."""
    rows = np.concatenate(samples)
    variances, basis = np.linalg.eigh(rows.T.astype(np.float64) @ rows / max(len(rows), 1))
    count = min(MAX_DIRECTIONS, len(variances))
    kept = np.maximum(variances[::-1][:count], 0)
    floor = max(SHRINKAGE * float(variances.clip(0).mean()), 1e-30)
    return np.ascontiguousarray(basis[:, ::-1][:, :count] / np.sqrt(kept + floor), np.float32)


def track_of(raw: RawTrack, seen_in: Floats) -> Track:
    """Return what is compared of a stream. `seen_in`: of `directions`."""
    details = np.zeros((len(raw), seen_in.shape[1]), np.float32)
    for first in range(0, len(raw), CHUNK_ROWS):
        end = min(first + CHUNK_ROWS, len(raw))
        found = differences(raw, first, end)
        seen = found @ seen_in
        lengths = np.linalg.norm(seen, axis=1)
        whole = np.linalg.norm(np.nan_to_num(raw.vectors[first:end], posinf=0, neginf=0), axis=1)
        steady = (np.linalg.norm(found, axis=1) <= MIN_ROUNDINGS * ROUNDING * whole) | (lengths <= 0)
        details[first:end] = seen / np.where(steady, np.inf, lengths)[:, None]
    hop_ns = int(np.median(np.diff(raw.middle_ns))) if len(raw) > 1 else raw.window_ns
    return Track(raw.middle_ns, raw.error_ns, raw.window_ns, max(hop_ns, 1), details)


def on_grid(track: Track, first_ns: int, step_ns: int, count: int) -> Floats:
    """Return details at times one step apart, (count, directions): between two windows that overlap or touch, a mix of both."""
    times = first_ns + step_ns * np.arange(count, dtype=np.int64)
    middle = track.middle_ns
    after = np.searchsorted(middle, times, "left").clip(1, max(len(middle) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(middle) - 1)
    apart = middle[after] - middle[before]
    share = ((times - middle[before]) / np.maximum(apart, 1)).astype(np.float32)
    nearest = np.where(share < 0.5, before, after)
    usable = track.usable
    mixed = (apart <= track.window_ns) & (share > 0) & (share < 1) & usable[before] & usable[after]
    near = np.abs(middle[nearest] - times) * 2 <= step_ns
    found = np.where(near[:, None], track.details[nearest], 0)
    weights = share[mixed][:, None]
    between = (1 - weights) * track.details[before[mixed]] + weights * track.details[after[mixed]]
    between /= np.maximum(np.linalg.norm(between, axis=1), np.finfo(np.float32).tiny)[:, None]
    found[mixed] = between
    return np.asarray(found, np.float32)
