"""A segment whose vectors lie in an array, and vectors like those of music."""

from __future__ import annotations

import numpy as np

from mertd.bench.music_vectors import MusicVectors
from mertd.memory.similarity.vector_segment import Ints, SegmentTable

HOP_NS = 5_000_000_000
WINDOW_NS = 30_000_000_000
START_NS = 1_700_000_000_000_000_000


class ArraySegment:
    """What a store offers, from arrays. `reads` counts the vectors that were asked for."""

    def __init__(self, vectors: np.ndarray, name: str = "one", table: SegmentTable | None = None, first: int = 0) -> None:
        self.name = name
        self.digest = f"{name}-{len(vectors)}"
        self.size = vectors.shape[1]
        self.reads = 0
        self._vectors = vectors
        self._first = first
        self._table = table or steady_table(len(vectors), first)

    def table(self) -> SegmentTable:
        return self._table

    def vectors(self, ids: Ints) -> np.ndarray:
        self.reads += len(ids)
        return self._vectors[ids - self._first]


def steady_table(count: int, first: int = 0, stream: int = 0, hop_ns: int = HOP_NS) -> SegmentTable:
    """Windows of 30 s one after the other; ids and times count from `first`."""
    ids = np.arange(first, first + count, dtype=np.int64)
    start = START_NS + ids * hop_ns
    return SegmentTable(ids, start, start + WINDOW_NS, np.full(count, stream, np.int32))


def music(pieces: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(MusicVectors(pieces, size, seed).blocks()))
