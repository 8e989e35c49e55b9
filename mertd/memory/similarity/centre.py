"""The centre of a space: the mean of its vectors. MERT's vectors share one strong direction, which hides what differs.

Rules of this file: no I/O. The order in which float16 vectors are added does not change the mean: their sums in float64 are
exact as long as all numbers are below 8 and there are fewer than 2**26 vectors.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mertd.errors import MertdError
from mertd.memory.similarity.checksum import CHECKSUM, checked, with_checksum
from mertd.memory.similarity.vector_segment import Floats

HEADER = struct.Struct("<8sIQQd")
"""Magic, numbers in a vector, vectors added, vectors rejected, sum of their squared lengths."""

MAGIC = b"mertdCE1"
"""First bytes of a serialised centre: what it is, and the version of its layout."""

BLOCK = 4_096
"""Vectors that are converted to float64 at once."""


class CentreError(MertdError):
    """Bytes are not a centre, or two centres belong to vectors of different sizes."""


class Centre:
    """The running mean of the vectors of one space, and how far they lie from it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self.rejected = 0  # vectors with a number that is not finite; they are left out
        self._sum = np.zeros(size, np.float64)
        self._squares = 0.0

    def add(self, vectors: ArrayLike) -> None:
        """Add vectors, (n, size) or (size,). Those with a number that is not finite are counted as rejected."""
        given = np.atleast_2d(np.asarray(vectors))
        if given.shape[1] != self.size:
            raise CentreError(f"vectors have {given.shape[1]} numbers; this centre is of vectors with {self.size}")
        for first in range(0, len(given), BLOCK):
            block = given[first : first + BLOCK].astype(np.float64)
            finite = np.isfinite(block).all(axis=1)
            block = block[finite]
            self.count += len(block)
            self.rejected += int((~finite).sum())
            self._sum += block.sum(axis=0)
            self._squares += float(np.square(block).sum())

    def merge(self, other: Centre) -> None:
        """Add what another centre has seen. Raises `CentreError` if its vectors have another size."""
        if other.size != self.size:
            raise CentreError(f"cannot merge a centre of vectors with {other.size} numbers into one with {self.size}")
        self.count += other.count
        self.rejected += other.rejected
        self._sum += other._sum
        self._squares += other._squares

    @property
    def mean(self) -> Floats:
        """The mean, (size,); zeros before the first vector."""
        return (self._sum / max(self.count, 1)).astype(np.float32)

    @property
    def spread(self) -> float:
        """Root mean square distance of the vectors from the mean."""
        if not self.count:
            return 0.0
        mean = self._sum / self.count
        return math.sqrt(max(self._squares / self.count - float(mean @ mean), 0.0))

    @property
    def anisotropy(self) -> float:
        """Mean product of two random vectors, over that of a vector with itself: 0 without a common direction, 1 at most."""
        if not self._squares:
            return 0.0
        mean = self._sum / self.count
        return float(mean @ mean / (self._squares / self.count))

    def shift_from(self, mean: NDArray[np.floating]) -> float:
        """Return how far the mean has moved from an earlier one, in units of `spread`."""
        moved = float(np.linalg.norm(self.mean - mean))
        return moved / self.spread if self.spread else (0.0 if moved == 0 else float("inf"))

    def to_bytes(self) -> bytes:
        """Return the centre as bytes, with a checksum."""
        content = HEADER.pack(MAGIC, self.size, self.count, self.rejected, self._squares) + self._sum.astype("<f8").tobytes()
        return with_checksum(content)

    @staticmethod
    def from_bytes(data: bytes) -> Centre:
        """Return the centre that `to_bytes` wrote. Raises `CentreError` if the bytes are damaged or something else."""
        if len(data) < HEADER.size + CHECKSUM.size or data[: len(MAGIC)] != MAGIC:
            raise CentreError("not a stored centre, or one of another version; compute it again from the vectors")
        content = checked(data)
        _, size, count, rejected, squares = HEADER.unpack(data[: HEADER.size])
        if content is None or len(content) != HEADER.size + 8 * size:
            raise CentreError("the stored centre is damaged; compute it again from the vectors")
        found = Centre(size)
        found.count, found.rejected = count, rejected
        found._squares = squares
        found._sum = np.frombuffer(content, "<f8", offset=HEADER.size).astype(np.float64)
        return found


def centred_units(vectors: NDArray[np.floating], mean: Floats) -> Floats:
    """Return `vectors` minus `mean`, (n, size), each at length 1 in float32.

    A vector at the mean itself stays zero; one with numbers that are not finite gets some that are not.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        moved = vectors.astype(np.float32) - mean
        lengths = np.sqrt(np.einsum("ij,ij->i", moved, moved))
        moved /= np.where(lengths > 0, lengths, 1)[:, None]
    return moved


def centred_cosine(a: NDArray[np.floating], b: NDArray[np.floating], mean: Floats) -> float:
    """Return the cosine of two vectors, (size,), seen from the mean; 0 if one of them is the mean."""
    first, second = centred_units(np.stack([a, b]), mean)
    return float(first @ second)
