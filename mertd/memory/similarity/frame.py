"""How an index sees vectors: from a centre, and in the few directions in which those of the space differ most.

Pooled vectors of 768 numbers differ in far fewer directions. An index compares only these, which reads a sixth of the bytes;
what the others would say is made up for by the exact refinement.

Rules of this file: no I/O, no random numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.vector_segment import Floats

DIRECTIONS = (128, 256)
"""Numbers of directions to choose from: the first that keeps enough; where none does, all numbers are compared."""

KEPT = 0.95
"""Share of the squared lengths that the directions must keep."""

FITTED = 4_096
"""Most vectors that the directions are found from."""

LEVELS = 127
"""Largest number of an int8 vector."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A centre, (size,), and orthonormal directions, (size, directions); with none, all numbers count."""

    mean: Floats
    basis: Floats
    key: tuple[int, int] = field(init=False)  # equal for equal frames

    def __post_init__(self) -> None:
        key = (zlib.crc32(self.mean.tobytes()), zlib.crc32(self.basis.tobytes()))
        object.__setattr__(self, "key", key)

    @staticmethod
    def fit(vectors: NDArray[np.floating], mean: Floats) -> Frame:
        """Return a frame for vectors like these, (n, size)."""
        size = len(mean)
        units = centred_units(vectors[:: -(-len(vectors) // FITTED) or 1], mean)
        units = units[np.isfinite(units).all(axis=1)]
        if size > DIRECTIONS[0] and len(units):
            shares, directions = np.linalg.eigh(units.T.astype(np.float64) @ units)
            kept = np.cumsum(shares[::-1]) / max(float(shares.sum()), np.finfo(np.float64).tiny)
            for count in DIRECTIONS:
                if count < size and kept[count - 1] >= KEPT:
                    return Frame(mean, np.ascontiguousarray(directions[:, ::-1][:, :count], np.float32))
        return Frame(mean, np.zeros((size, 0), np.float32))

    @property
    def directions(self) -> int:
        """Numbers of a vector as it is seen from here."""
        return self.basis.shape[1] or len(self.mean)

    def project(self, vectors: Floats) -> Floats:
        """Return what of vectors, (n, size), lies in the directions, (n, directions)."""
        found: Floats = vectors @ self.basis if self.basis.shape[1] else vectors
        return found

    def seen(self, query: NDArray[np.floating]) -> NDArray[np.int8]:
        """Return a vector, (size,), as the index compares it."""
        found: NDArray[np.int8] = to_int8(self.project(centred_units(query[None], self.mean)))[0]
        return found


def to_int8(vectors: Floats) -> NDArray[np.int8]:
    """Return vectors, (n, size), as int8: each by its own largest number, which a cosine does not see."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num(vectors * (LEVELS / np.where(largest > 0, largest, 1)), posinf=0, neginf=0)
    return np.rint(scaled).astype(np.int8)
