"""Vectors made like those of music, in any number: slow drift, pieces that return, near duplicates, one strong direction.

Rules of this file: the same seed gives the same vectors, whatever the size of a block; nothing larger than a block is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LATENT = 48
"""Dimensions in which the music moves; the others carry noise alone."""

PIECE_WINDOWS = 40
"""Windows in a piece: 200 s at a hop of 5 s."""

PIECES_A_BLOCK = 512
"""Pieces that are made at once."""

OVERLAP = 6
"""Windows that share sound with the first of them: 30 s at a hop of 5 s."""

RETURNS = 0.3
"""Share of pieces that were played before."""

REPERTOIRE = 20_000
"""Most pieces that are remembered for a return."""

OFFSET = 4.0
"""Length of the common direction, in lengths of what differs between two pieces: raw cosines are above 0.9."""

RETURN_NOISE = 0.05
"""Difference between a piece and its return, in lengths of what differs between two pieces."""

WINDOW_NOISE = 0.08
"""Noise of one window in all dimensions, in the same unit."""


@dataclass(frozen=True)
class MusicVectors:
    """A programme of `pieces` pieces, made block by block."""

    pieces: int
    size: int = 768  # numbers in a vector
    seed: int = 0

    @property
    def count(self) -> int:
        """Number of vectors."""
        return self.pieces * PIECE_WINDOWS

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        """Yield the vectors in order of time, (windows, size) at a time."""
        for first in range(0, self.pieces, PIECES_A_BLOCK):
            yield self.block(first // PIECES_A_BLOCK)

    def block(self, number: int) -> NDArray[np.float16]:
        """Return the vectors of one block of pieces, (windows, size)."""
        count = min(PIECES_A_BLOCK, self.pieces - number * PIECES_A_BLOCK)
        generator = np.random.default_rng([self.seed, 1, number])
        works = self._works(number, count)
        paths = np.stack([self._path(int(work)) for work in works])
        paths += RETURN_NOISE * generator.standard_normal((count, 1, LATENT), np.float32) / np.float32(LATENT**0.5)
        vectors = paths.reshape(-1, LATENT) @ self._basis()
        noise = generator.standard_normal(vectors.shape, np.float32)
        noise *= np.float32(WINDOW_NOISE / self.size**0.5)
        vectors += noise
        vectors += self._offset()
        return vectors.astype(np.float16)

    def _works(self, number: int, count: int) -> NDArray[np.int64]:
        """Return the works that the pieces of a block are performances of; a new work has the number of its first piece."""
        generator = np.random.default_rng([self.seed, 2, number])
        first = number * PIECES_A_BLOCK
        works = np.arange(first, first + count)
        returning = generator.random(count) < RETURNS
        earlier = generator.integers(0, max(1, min(REPERTOIRE, first)), count)
        return np.where(returning & (first > 0), earlier, works)

    def _path(self, work: int) -> NDArray[np.float32]:
        """Return the way of a work through the latent dimensions, (windows, latent): its place, sections and a slow drift."""
        generator = np.random.default_rng([self.seed, 3, work])
        place = generator.standard_normal(LATENT, np.float32)
        sections = generator.standard_normal((3, LATENT), np.float32) * np.float32(0.35)
        order = np.repeat(generator.integers(0, 3, 5), PIECE_WINDOWS // 5)
        steps = generator.standard_normal((PIECE_WINDOWS + OVERLAP - 1, LATENT), np.float32) * np.float32(0.06)
        path = np.cumsum(steps, axis=0)
        path[:PIECE_WINDOWS] += sections[order]
        path[PIECE_WINDOWS:] += sections[order[-1]]
        sums = np.cumsum(np.vstack([np.zeros((1, LATENT), np.float32), path]), axis=0)
        blurred = (sums[OVERLAP:] - sums[:-OVERLAP]) / np.float32(OVERLAP)
        return np.asarray((place + blurred) / np.float32(LATENT**0.5), np.float32)

    def _basis(self) -> NDArray[np.float32]:
        """Return the directions of the latent dimensions, (latent, size); the first matter most."""
        generator = np.random.default_rng([self.seed, 4])
        rows, _ = np.linalg.qr(generator.standard_normal((max(self.size, LATENT), LATENT)))
        weights = np.arange(1, LATENT + 1) ** -0.3
        weights *= (LATENT / np.square(weights).sum()) ** 0.5
        return np.asarray(rows.T[:, : self.size] * weights[:, None], np.float32)

    def _offset(self) -> NDArray[np.float32]:
        generator = np.random.default_rng([self.seed, 5])
        direction = generator.standard_normal(self.size)
        return np.asarray(direction * (OFFSET / np.linalg.norm(direction)), np.float32)
