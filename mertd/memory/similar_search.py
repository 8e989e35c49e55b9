"""The search for similar moments over the files of a memory: what is built from full files is kept beside them.

Beside each full file lie, for each space, an index (`.similar`) and what calibrates similarity (`.centre`). Both may be deleted
at any time and are then built again. Without USearch there is no index, and everything is compared, which is exact but slow.
"""

from __future__ import annotations

import importlib.util
import logging
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.errors import MertdError, StoreError
from mertd.files import replacing
from mertd.memory.memory_folder import open_if_there, segments
from mertd.memory.segment import Segment
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.checksum import checked, with_checksum
from mertd.memory.similarity.moments import Moment
from mertd.memory.similarity.pair_sample import Calibration, PairSample
from mertd.memory.similarity.segment_index import SUFFIX, SegmentIndex, ensure_index
from mertd.memory.similarity.similar import EVERYTHING, IndexedSegment, find_similar
from mertd.memory.similarity.vector_segment import SegmentTable, SpanFilter
from mertd.memory.space_vectors import ROW, SpaceVectors

HEAD = struct.Struct("<II")
"""Bytes of the digest and of the centre, before these and the sample."""

CENTRE_SUFFIX = ".centre"
"""Ending of the name of a file with what calibrates similarity."""

BLOCK = 8_192
"""Vectors that are read at once."""

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Told what is being built, for each file that takes time."""


class Statistics:
    """The centre of a space and a sample of its pairs, of one file or of several."""

    def __init__(self, size: int) -> None:
        self.centre = Centre(size)
        self.sample = PairSample(size)

    def add(self, vectors: SpaceVectors, table: SegmentTable) -> None:
        """Add rows of a file."""
        for first in range(0, len(table), BLOCK):
            part = table.take(np.arange(first, min(first + BLOCK, len(table))))
            values = vectors.vectors(part.ids)
            self.centre.add(values)
            self.sample.add(part.start_ns, part.streams, values)

    def merge(self, other: Statistics) -> None:
        """Add what another has seen."""
        self.centre.merge(other.centre)
        self.sample.merge(other.sample)

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


class _Part:
    """One file of the memory, open, with what was built from it."""

    def __init__(self, segment: Segment, space: str) -> None:
        self.vectors = SpaceVectors(segment, space)
        self.inode = segment.path.stat().st_ino
        self.digest = ""
        self.statistics = Statistics(self.vectors.size)
        self.index: SegmentIndex | None = None
        self._segment = segment
        self._last = 0
        self._forgotten = -1

    def refresh(self, progress: Progress) -> None:
        """Bring the statistics up to date with the file."""
        digest = self.vectors.digest
        if digest == self.digest:
            return
        forgotten = self._segment.fact("forgotten")
        if self._segment.closed:
            self.statistics = self._kept(digest, progress)
            self.index = None
        else:
            if forgotten != self._forgotten:  # what was deleted cannot be taken out of a mean: begin again
                self.vectors.reread()
                self.statistics = Statistics(self.vectors.size)
                self._last = 0
            self._grow()
        self._forgotten = forgotten
        self.digest = digest

    def ensure_index(self, centre: Centre, progress: Progress) -> None:
        """Open the index of a full file, and build it if need be."""
        if not self._segment.closed or (self.index is not None and not self.index.stale(centre)):
            return
        if not has_index_library():
            return
        path = self._segment.path.with_name(f"{self.vectors.name}{SUFFIX}")
        if not path.exists():
            progress(f"building the index of {self._segment.path.name}")
        try:
            self.index = ensure_index(self.vectors, path.parent, centre)
        except OSError as error:
            log.warning("no index of %s, which is compared number by number: %s", self._segment.path.name, error)

    def close(self) -> None:
        self._segment.close()

    def _kept(self, digest: str, progress: Progress) -> Statistics:
        path = self._segment.path.with_name(f"{self.vectors.name}{CENTRE_SUFFIX}")
        found = Statistics.load(path, digest)
        if found is None:
            progress(f"reading {self._segment.path.name}")
            found = Statistics(self.vectors.size)
            found.add(self.vectors, self.vectors.table())
            with suppress(OSError):  # a memory that may only be read: it is computed again
                found.save(path, digest)
        return found

    def _grow(self) -> None:
        self.vectors.reread()
        if not self.statistics.centre.size:
            self.statistics = Statistics(self.vectors.size)
        table = self.vectors.table(self._last)
        if len(table):
            self.statistics.add(self.vectors, table)
            self._last = int(table.ids[-1]) & ROW


class SimilarSearch:
    """The search in one space of a memory. It keeps files and indexes open between calls; its calls exclude each other."""

    def __init__(self, folder: Path, space: str, progress: Progress = lambda _: None) -> None:
        """Nothing is read yet. `progress`: is told what takes time."""
        self._folder = folder
        self._space = space
        self._progress = progress
        self._lock = threading.Lock()
        self._parts: dict[Path, _Part] = {}
        self._merged: tuple[tuple[str, ...], Statistics, Calibration] | None = None

    def find(self, vector: NDArray[np.floating], count: int = 10, allowed: SpanFilter = EVERYTHING) -> list[Moment]:
        """Return the `count` moments most similar to a vector, (layers * size,), most similar first.

        Raises `SpaceError` for a vector of another size or without direction, `StoreError` if there is nothing to compare with.
        """
        with self._lock:
            statistics, calibration, parts = self._prepare()
            indexed = [IndexedSegment(part.vectors, part.index) for part in parts]
            return find_similar(vector, indexed, statistics.centre.mean, calibration, count, allowed)

    def describe(self) -> str:
        """Return in words what percentiles rest on. Raises `StoreError`."""
        with self._lock:
            _, calibration, _ = self._prepare()
            return calibration.describe()

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for part in self._parts.values():
                part.close()
            self._parts.clear()

    def _prepare(self) -> tuple[Statistics, Calibration, list[_Part]]:
        """Bring everything up to date with the files."""
        parts = self._refreshed()
        if not parts:
            raise StoreError(f"no vectors of space {self._space} in {self._folder}")
        known = tuple(f"{part.vectors.name} {part.digest}" for part in parts)
        if self._merged is None or self._merged[0] != known:
            merged = Statistics(parts[-1].vectors.size)
            for part in parts:
                merged.merge(part.statistics)
            self._merged = (known, merged, merged.sample.calibrate(merged.centre.mean))
        _, statistics, calibration = self._merged
        for part in parts:
            part.ensure_index(statistics.centre, self._progress)
        return statistics, calibration, parts

    def _refreshed(self) -> list[_Part]:
        """Return the files with vectors of the space. A file that was deleted, or written anew, is closed."""
        kept: dict[Path, _Part] = {}
        for path in segments(self._folder):
            part = self._parts.pop(path, None)
            if part is not None and not _is_file(path, part.inode):
                part.close()
                part = None
            if part is None and (segment := open_if_there(path)) is not None:
                part = _Part(segment, self._space)
            if part is not None:
                part.refresh(self._progress)
                kept[path] = part
        for part in self._parts.values():
            part.close()
        self._parts = kept
        return [part for part in kept.values() if part.vectors.size and part.statistics.centre.count]


def has_index_library() -> bool:
    """Return whether USearch is installed."""
    return importlib.util.find_spec("usearch") is not None


def _is_file(path: Path, inode: int) -> bool:
    with suppress(OSError):
        return path.stat().st_ino == inode
    return False
