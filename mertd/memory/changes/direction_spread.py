"""The mean direction of windows, and how far they lie from it.

Rules of this file: no I/O. Directions are float16 numbers of at most 1, so their sums in float64 are exact: what was added and
taken out again leaves no trace, and the result depends on the windows that are in, not on those that were.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

SQUARE_BITS = 40
"""Squared lengths are added up as whole numbers of 2**-SQUARE_BITS, which is exact too."""

Direction = NDArray[np.float16]
"""A vector of length 1, (size,)."""


def direction(vector: NDArray[np.floating]) -> Direction:
    """Return where a finite vector of any shape points, (size,); zeros for one without length."""
    flat = vector.astype(np.float64).ravel()
    peak = float(np.abs(flat).max(initial=0.0))
    if not peak:
        return flat.astype(np.float16)
    flat /= peak  # so that no square is out of range
    return (flat / np.linalg.norm(flat)).astype(np.float16)


class DirectionSum:
    """Mean and variance of directions that come and go."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self._sum = np.zeros(size, np.float64)
        self._squares = 0  # sum of the squared lengths, which are 1 but for rounding, times 2**SQUARE_BITS

    def add(self, one: Direction, sign: int = 1) -> None:
        """Add a direction; with a `sign` of -1, take one out that was added."""
        exact = one.astype(np.float64)
        self.count += sign
        self._sum += sign * exact
        self._squares += sign * round(float(np.square(exact).sum()) * 2**SQUARE_BITS)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean direction, (size,)."""
        return self._sum / max(self.count, 1)

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean: half of that between two of the directions."""
        squares = math.ldexp(self._squares, -SQUARE_BITS) / max(self.count, 1)
        return max(squares - float(np.square(self.mean).sum()), 0.0)


class LatestDirections(DirectionSum):
    """The same of the last `limit` directions."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size)
        self._limit = limit
        self._latest: deque[Direction] = deque()

    def push(self, one: Direction) -> None:
        """Add a direction; the oldest one leaves when there are more than `limit`."""
        self.add(one)
        self._latest.append(one)
        if self.count > self._limit:
            self.add(self._latest.popleft(), -1)
