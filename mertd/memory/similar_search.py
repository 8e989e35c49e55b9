"""The search for similar moments over the files of a memory: what is built from full files is kept beside them.

Beside each full file lie, for each space, an index (`.similar`) and what calibrates similarity (`.centre`). Both may be deleted
at any time and are then built again. Without USearch there is no index, and everything is compared, which is exact but slow.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.errors import StoreError
from mertd.memory.memory_folder import open_if_there, segments
from mertd.memory.searched_file import Progress, SearchedFile
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.moments import Moment
from mertd.memory.similarity.similar import EVERYTHING, IndexedSegment, find_similar
from mertd.memory.similarity.vector_segment import SpanFilter
from mertd.memory.space_statistics import MergedStatistics

TICK_NS = 2_000_000_000
"""Nanoseconds within which two changes of a directory may have the same time: the coarsest clock of a file system."""


class SimilarSearch:
    """The search in one space of a memory. It keeps files and indexes open between calls; its calls exclude each other."""

    def __init__(self, folder: Path, space: str, progress: Progress = lambda _: None) -> None:
        """Nothing is read yet. `progress`: is told what takes time."""
        self._folder = folder
        self._space = space
        self._progress = progress
        self._lock = threading.Lock()
        self._parts: dict[Path, SearchedFile] = {}
        self._merged = MergedStatistics()
        self._listed: tuple[int, list[Path]] | None = None  # when the directory had changed last, and its files

    def find(self, vector: NDArray[np.floating], count: int = 10, allowed: SpanFilter = EVERYTHING) -> list[Moment]:
        """Return the `count` moments most similar to a vector, (layers * size,), most similar first.

        Raises `SpaceError` for a vector of another size or without direction, `StoreError` if there is nothing to compare with.
        """
        with self._lock:
            parts = self._prepare()
            indexed = [IndexedSegment(part.vectors, part.index) for part in parts]
            merged = self._merged
            return find_similar(vector, indexed, merged.centre.mean, merged.calibration, count, allowed)

    def describe(self) -> str:
        """Return in words what percentiles rest on. Raises `StoreError`."""
        with self._lock:
            self._prepare()
            return self._merged.calibration.describe()

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for part in self._parts.values():
                part.close()
            self._parts.clear()

    def _prepare(self) -> list[SearchedFile]:
        """Bring everything up to date with the files, and return them."""
        parts = self._refreshed()
        if not parts:
            raise StoreError(f"no vectors of space {self._space} in {self._folder}")
        changed = self._merged.update(
            {part.state: part.statistics for part in parts if part.closed},
            {part.state: part.statistics for part in parts if not part.closed},
        )
        frame = _newest_frame(parts)
        for part in parts:
            if (changed or part.index is None) and (not part.closed or has_index_library()):
                part.ensure_index(self._merged.centre, self._progress, frame)
                frame = part.frame or frame
        return parts

    def _paths(self) -> list[Path]:
        """Return the files. They are listed again if the directory has changed since, or may have within a tick."""
        changed_ns = self._folder.stat().st_mtime_ns
        if self._listed is None or self._listed[0] != changed_ns:
            settled = time.time_ns() - changed_ns > TICK_NS
            paths = segments(self._folder)
            if not settled:
                return paths
            self._listed = (changed_ns, paths)
        return self._listed[1]

    def _refreshed(self) -> list[SearchedFile]:
        """Return the files with vectors of the space. A file that was deleted, or written anew, is closed."""
        kept: dict[Path, SearchedFile] = {}
        frame: Frame | None = None
        for path in self._paths():
            part = self._parts.pop(path, None)
            if part is not None and not part.is_current():
                part.close()
                part = None
            if part is None and (segment := open_if_there(path)) is not None:
                part = SearchedFile(segment, self._space)
            if part is not None:
                part.refresh(self._progress, frame)
                if part.index is None and has_index_library():
                    part.open_index()
                frame = part.frame or frame
                kept[path] = part
        for part in self._parts.values():
            part.close()
        self._parts = kept
        return [part for part in kept.values() if part.vectors.size and part.statistics.centre.count]


def has_index_library() -> bool:
    """Return whether USearch is installed."""
    return importlib.util.find_spec("usearch") is not None


def _newest_frame(parts: Iterable[SearchedFile]) -> Frame | None:
    frames = [part.frame for part in parts if part.frame is not None]
    return frames[-1] if frames else None
