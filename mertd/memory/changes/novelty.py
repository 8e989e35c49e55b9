"""Foote's novelty: how much the vectors before a point differ from those after it, and each side agrees with itself.

Foote 2000, "Automatic audio segmentation using a measure of audio novelty": a checkerboard kernel with a Gaussian taper is
moved along the diagonal of the matrix of products. The kernel is an outer product, so its sum over that square is half of the
squared distance between the weighted means of both sides, and nothing but the vectors themselves is needed. A common direction
of all vectors, which hides what differs, falls out of a difference.

Rules of this file: no I/O; the value at a point is the same, bit for bit, whether it is computed live or afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TAPER = 0.5
"""Standard deviation of the kernel's Gaussian, in units of its half width."""


def side_weights(half: int) -> NDArray[np.float64]:
    """Return the weights of `2 * half` vectors: negative before the point, positive after it, each side with a sum of 1."""
    offsets = (np.arange(2 * half) - (half - 0.5)) / half
    taper = np.exp(-0.5 * np.square(offsets / TAPER)) * np.sign(offsets)
    return np.asarray(taper / taper[half:].sum())


def novelty(vectors: Sequence[NDArray[np.floating]], weights: NDArray[np.float64]) -> float:
    """Return the novelty in the middle of `2 * half` vectors, (size,) each: 0 if both sides are alike."""
    difference = np.zeros(len(vectors[0]), np.float64)
    for weight, vector in zip(weights, vectors, strict=True):  # in a fixed order, so that the sum is the same everywhere
        difference += weight * vector
    return 0.5 * float(np.square(difference).sum())
