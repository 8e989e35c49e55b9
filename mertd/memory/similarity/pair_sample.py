"""How unusual a similarity is: its place among the similarities of random pairs of windows far apart in time.

The sample keeps the vectors whose keys, hashes of time and stream, are smallest. So it is random but the same on every machine,
adding in another order or twice changes nothing, and two samples merge into that of both.

Rules of this file: no I/O, no clock, no random numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.errors import MertdError
from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.checksum import CHECKSUM, checked, with_checksum
from mertd.memory.similarity.vector_segment import Floats, Ints

SAMPLED = 512
"""Most vectors in a sample: up to 130,816 pairs."""

APART_NS = 3_600_000_000_000
"""Least time between the windows of a pair, in nanoseconds: an hour, so that a pair is seldom of one piece."""

MIN_PAIRS = 1_000
"""Fewest pairs on which a percentile may rest."""

MIN_VECTORS = 100
"""Fewest vectors in those pairs: pairs of a few vectors repeat what these have in common."""

MAGIC = b"mertdPS1"
"""First bytes of a serialised sample: what it is, and the version of its layout."""

HEADER = struct.Struct("<8sIIQ")
"""Magic, numbers in a vector, vectors, seed."""


class SampleError(MertdError):
    """Bytes are not a sample, or two samples do not fit together."""


@dataclass(frozen=True)
class Calibration:
    """Similarities of random pairs, in order."""

    similarities: Floats
    vectors: int  # different vectors in the pairs

    @property
    def pairs(self) -> int:
        """Number of pairs that a percentile rests on."""
        return len(self.similarities)

    @property
    def enough(self) -> bool:
        """Whether there are enough pairs to say how unusual a similarity is."""
        return self.pairs >= MIN_PAIRS and self.vectors >= MIN_VECTORS

    def percentile(self, similarity: float) -> float | None:
        """Return the percentage of pairs that are less similar; None if there are too few pairs. It never reaches 0 or 100."""
        if not self.enough:
            return None
        exact = np.float32(similarity)  # a float64 would make a copy of all of them
        below = np.searchsorted(self.similarities, exact, "left")
        up_to = np.searchsorted(self.similarities, exact, "right")
        return float(100 * ((below + up_to) / 2 + 0.5) / (self.pairs + 1))

    def describe(self) -> str:
        """Return in words what percentiles rest on."""
        hours = APART_NS / 3.6e12
        if self.enough:
            return f"percentiles among {self.pairs:,} pairs of {self.vectors} windows, each pair at least {hours:g} h apart"
        return (
            f"no percentiles yet: too few windows at least {hours:g} h apart "
            f"({self.vectors} windows, {self.pairs:,} pairs; needs {MIN_VECTORS} and {MIN_PAIRS:,})"
        )


class PairSample:
    """A random sample of the vectors of one space."""

    def __init__(self, size: int, seed: int = 0, limit: int = SAMPLED) -> None:
        self.size = size
        self.seed = seed
        self._limit = limit
        self._keys = np.zeros(0, np.uint64)
        self._start_ns = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, size), np.float16)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, start_ns: Ints, streams: NDArray[np.integer], vectors: NDArray[np.floating]) -> None:
        """Offer windows to the sample: starts and streams, (n,), and vectors, (n, size). Those that
        are not finite are left out.
        """
        if vectors.shape[1:] != (self.size,):
            raise SampleError(f"vectors have {vectors.shape[-1]} numbers; this sample is of vectors with {self.size}")
        keys = sample_keys(start_ns, streams, self.seed)
        offered = np.ones(len(keys), bool) if len(self) < self._limit else keys < self._keys[-1]
        with np.errstate(over="ignore"):
            chosen = vectors[offered].astype(np.float16)
        finite = np.isfinite(chosen).all(axis=1)
        self._keep(keys[offered][finite], start_ns[offered][finite], chosen[finite])

    def merge(self, *others: PairSample) -> None:
        """Add the vectors of other samples. Raises `SampleError` if one was made with another seed or of another size."""
        if any((other.size, other.seed) != (self.size, self.seed) for other in others):
            raise SampleError("cannot merge samples of different seeds or of vectors with different sizes")
        # No vector is copied that is not among the smallest in the end.
        keys = np.concatenate([np.zeros(0, np.uint64), *(other._keys for other in others)])
        limit = np.partition(keys, self._limit)[self._limit] if len(keys) > self._limit else None
        chosen = [slice(None) if limit is None else other._keys <= limit for other in others]
        parts = [(o._keys[rows], o._start_ns[rows], o._vectors[rows]) for o, rows in zip(others, chosen, strict=True)]
        empty = (self._keys[:0], self._start_ns[:0], self._vectors[:0])
        self._keep(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))

    def is_like(self, other: PairSample) -> bool:
        """Return whether another sample holds the same windows."""
        return np.array_equal(self._keys, other._keys)

    def calibrate(self, mean: Floats) -> Calibration:
        """Return the similarities of all pairs far enough apart, seen from `mean`."""
        units = centred_units(self._vectors, mean)
        first, second = np.triu_indices(len(self), 1)
        apart = np.abs(self._start_ns[first] - self._start_ns[second]) >= APART_NS
        first, second = first[apart], second[apart]
        similarities = (units @ units.T)[first, second]
        return Calibration(np.sort(similarities), len(np.union1d(first, second)))

    def to_bytes(self) -> bytes:
        """Return the sample as bytes, with a checksum."""
        parts = [HEADER.pack(MAGIC, self.size, len(self), self.seed), self._keys.astype("<u8").tobytes()]
        parts += [self._start_ns.astype("<i8").tobytes(), self._vectors.astype("<f2").tobytes()]
        content = b"".join(parts)
        return with_checksum(content)

    @staticmethod
    def from_bytes(data: bytes) -> PairSample:
        """Return the sample that `to_bytes` wrote. Raises `SampleError` if the bytes are damaged or something else."""
        if len(data) < HEADER.size + CHECKSUM.size or data[: len(MAGIC)] != MAGIC:
            raise SampleError("not a stored sample, or one of another version; draw it again from the vectors")
        content = checked(data)
        _, size, count, seed = HEADER.unpack(data[: HEADER.size])
        if content is None or len(content) != HEADER.size + count * (16 + 2 * size):
            raise SampleError("the stored sample is damaged; draw it again from the vectors")
        found = PairSample(size, seed)
        at = HEADER.size
        found._keys = np.frombuffer(content, "<u8", count, at).astype(np.uint64)
        found._start_ns = np.frombuffer(content, "<i8", count, at + 8 * count).astype(np.int64)
        vectors = np.frombuffer(content, "<f2", count * size, at + 16 * count)
        found._vectors = vectors.reshape(count, size).astype(np.float16)
        return found

    def _keep(self, keys: NDArray[np.uint64], start_ns: Ints, vectors: NDArray[np.float16]) -> None:
        """Keep those with the smallest keys of the present vectors and these."""
        if not len(keys):
            return
        all_keys, rows = np.unique(np.concatenate([self._keys, keys]), return_index=True)
        rows = rows[: self._limit]
        self._start_ns = np.concatenate([self._start_ns, start_ns])[rows]
        self._vectors = np.concatenate([self._vectors, vectors])[rows]
        self._keys = all_keys[: self._limit]


def sample_keys(start_ns: Ints, streams: NDArray[np.integer], seed: int) -> NDArray[np.uint64]:
    """Return a hash of each window, (n,): SplitMix64's finaliser (Steele et al. 2014) over time, stream and seed."""
    with np.errstate(over="ignore"):
        keys = start_ns.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * (streams.astype(np.uint64) + np.uint64(seed + 1))
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(keys ^ (keys >> np.uint64(31)), np.uint64)
