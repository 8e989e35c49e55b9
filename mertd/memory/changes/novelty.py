"""Foote's novelty: how much the vectors before a point differ from those after it, and each side agrees with itself.

Foote 2000, "Automatic audio segmentation using a measure of audio novelty": a checkerboard kernel with a Gaussian taper is
moved along the diagonal of the self-similarity matrix. Only the band that the kernel covers is ever computed.

Rules of this file: no I/O, no clock; the value at a point is the same, bit for bit, whether it is computed live or afterwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.vector_segment import Floats

TAPER = 0.5
"""Standard deviation of the kernel's Gaussian, in units of its half width."""


def checkerboard(half: int) -> Floats:
    """Return the kernel, (2 * half, 2 * half): positive within a side, negative between them; the positive part sums to 1."""
    offsets = (np.arange(2 * half) - (half - 0.5)) / half
    taper = np.exp(-0.5 * np.square(offsets / TAPER))
    kernel = np.outer(taper, taper) * np.sign(np.outer(offsets, offsets))
    return np.asarray(kernel / kernel[kernel > 0].sum(), np.float32)


class NoveltyCurve:
    """The novelty between two neighbouring windows, as windows come. It lags `half` windows behind the newest."""

    def __init__(self, half: int) -> None:
        self.half = half
        self._kernel = checkerboard(half)
        self._recent: list[Floats] = []  # unit vectors, at most 2 * half

    def feed(self, unit: Floats) -> float | None:
        """Add a vector, (size,), of length 1. Return the novelty `half` windows back, 0 to 2; None at the start."""
        self._recent.append(unit)
        if len(self._recent) > 2 * self.half:
            self._recent.pop(0)
        if len(self._recent) < 2 * self.half:
            return None
        block = np.stack(self._recent)
        return max(float((self._kernel * (block @ block.T)).sum(dtype=np.float64)), 0.0)

    def clear(self) -> None:
        """Forget everything, because the next window does not follow the last one."""
        self._recent.clear()


def novelty(units: NDArray[np.float32], half: int) -> Floats:
    """Return the novelty before each window, (n,), of unit vectors, (n, size); 0 with fewer than `half` on a side."""
    curve = NoveltyCurve(half)
    values = np.zeros(len(units), np.float32)
    for at, unit in enumerate(units):
        value = curve.feed(unit)
        if value is not None:
            values[at - half + 1] = value
    return values
