"""What calibrates similarity in a space: the centre of its vectors and a sample of their pairs, of one file and of all."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.errors import MertdError
from mertd.files import replacing
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.checksum import checked, with_checksum
from mertd.memory.similarity.pair_sample import Calibration, PairSample
from mertd.memory.similarity.vector_segment import Floats, SegmentTable
from mertd.memory.space_vectors import ROW, SpaceVectors

HEAD = struct.Struct("<II")
"""Bytes of the digest and of the centre, before these and the sample."""

BLOCK = 8_192
"""Vectors that are read at once."""

UNMOVED = 0.001
"""How far the centre may move, in units of the vectors' spread, before similarities of the sample are computed again."""


def blocks(vectors: SpaceVectors, after: int = 0) -> Iterator[tuple[SegmentTable, NDArray[np.float32]]]:
    """Yield the windows of a file and their vectors, a bounded number at a time. `after`: only rows behind this one."""
    while True:
        table, values = vectors.read(after, BLOCK)
        if not len(table):
            return
        after = int(table.ids[-1]) & ROW
        yield table, values


class Statistics:
    """The centre of a space and a sample of its pairs, of one file or of several."""

    def __init__(self, size: int) -> None:
        self.centre = Centre(size)
        self.sample = PairSample(size)

    def add(self, table: SegmentTable, vectors: NDArray[np.float32]) -> None:
        """Add windows."""
        self.centre.add(vectors)
        self.sample.add(table.start_ns, table.streams, vectors)

    def save(self, path: Path, digest: str) -> None:
        """Write this to a file. Raises `OSError`."""
        centre = self.centre.to_bytes()
        content = HEAD.pack(len(digest), len(centre)) + digest.encode() + centre + self.sample.to_bytes()
        with replacing(path) as file:
            file.write(with_checksum(content))

    @staticmethod
    def load(path: Path, digest: str) -> Statistics | None:
        """Return what was saved for this digest; None if there is nothing, or it is damaged."""
        with suppress(OSError, struct.error, MertdError):
            data = checked(path.read_bytes()) or b""
            head, centre = HEAD.unpack_from(data)
            at = HEAD.size + head
            if data[HEAD.size : at] == digest.encode():
                found = Statistics(1)
                found.centre = Centre.from_bytes(data[at : at + centre])
                found.sample = PairSample.from_bytes(data[at + centre :])
                return found
        return None


class MergedStatistics:
    """The statistics of all files of a space. Those of full files are merged once, as these do not change.

    Attributes:
        centre, calibration: of all files.
    """

    def __init__(self) -> None:
        self.centre = Centre(0)
        self.calibration = Calibration(np.zeros(0, np.float32), 0)
        self._states: tuple[str, ...] = ()
        self._full_states: tuple[str, ...] = ()
        self._full: Statistics | None = None
        self._calibrated: tuple[PairSample, Floats] | None = None

    def update(self, full: Mapping[str, Statistics], growing: Mapping[str, Statistics]) -> bool:
        """Merge the statistics of files, each under a name that changes with them. Returns whether something has changed."""
        states = (*full, *growing)
        if states == self._states:
            return False
        if self._full is None or tuple(full) != self._full_states:
            self._full_states, self._full = tuple(full), _merged([*full.values()], [*full.values(), *growing.values()][-1])
        whole = _merged([self._full, *growing.values()], self._full)
        self._states, self.centre = states, whole.centre
        if (
            self._calibrated is None
            or not whole.sample.is_like(self._calibrated[0])
            or whole.centre.shift_from(self._calibrated[1]) > UNMOVED
        ):
            self._calibrated = (whole.sample, whole.centre.mean)
            self.calibration = whole.sample.calibrate(whole.centre.mean)
        return True


def _merged(parts: list[Statistics], like: Statistics) -> Statistics:
    """Return the statistics of several files. `like`: one of the same size."""
    found = Statistics(like.centre.size)
    for part in parts:
        found.centre.merge(part.centre)
    found.sample.merge(*(part.sample for part in parts))
    return found
