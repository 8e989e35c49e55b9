"""The square of self-similarity and the path in two dimensions, from the mean directions of a span.

Rules of this file: no I/O; pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

NOT_HEARD = 255
"""Value in the square where at least one of the two moments was not heard."""

LEVELS = 254
"""Value of a similarity of 1; that of -1 is 0."""

MIN_MOMENTS = 8
"""Fewest directions from which axes are found."""


def square(means: Floats, counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return how alike any two moments are, (n, n): the cosine seen from the mean of the span, from 0 (-1) to 254 (1).

    `means`: directions, (n, size). `counts`: windows that each is the mean of, 0 for what was not heard.
    """
    heard = counts > 0
    units = np.zeros_like(means)
    if heard.any():
        centre = (means[heard] * counts[heard, None]).sum(axis=0) / counts.sum()
        moved = means[heard] - centre
        lengths = np.linalg.norm(moved, axis=1)
        units[heard] = moved / np.where(lengths > 0, lengths, 1)[:, None]
    found: NDArray[np.uint8] = np.clip(np.rint((units @ units.T + 1) * (LEVELS / 2)), 0, LEVELS).astype(np.uint8)
    found[~heard] = NOT_HEARD
    found[:, ~heard] = NOT_HEARD
    return found


@dataclass(frozen=True)
class Axes:
    """Two axes on which directions are drawn. `share`: of the variance that each shows."""

    mean: Floats
    rows: Floats  # (2, size)
    share: tuple[float, float]

    def place(self, directions: Floats) -> Floats:
        """Return where directions are drawn, (n, 2)."""
        return np.asarray((directions - self.mean) @ self.rows.T, np.float32)


def find_axes(directions: Floats) -> Axes | None:
    """Return the two axes along which directions, (n, size), differ most; None if there are too few, or all are equal.

    Their signs are the same whenever the directions are.
    """
    if len(directions) < MIN_MOMENTS:
        return None
    mean = directions.mean(axis=0)
    _, lengths, rows = np.linalg.svd(directions - mean, full_matrices=False)
    squares = np.square(lengths)
    if squares[0] <= 1e-12:
        return None
    rows = rows[:2]
    largest = np.abs(rows).argmax(axis=1)
    rows = rows * np.sign(rows[[0, 1], largest])[:, None]
    first, second = (squares[:2] / squares.sum()).tolist()
    return Axes(mean, np.asarray(rows, np.float32), (first, second))
