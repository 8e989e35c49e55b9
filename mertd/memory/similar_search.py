"""The search for similar moments over the files of a memory: what is built from full files is kept beside them.

Beside each full file lie, for each space, an index (`.similar`) and what calibrates similarity (`.centre`), and beside eight of
them an index of all. They may be deleted at any time and are then built again. Without USearch there is no index, and
everything is compared, which is exact but slow.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.errors import StoreError
from mertd.memory.file_group import FileGroup, OpenGroups
from mertd.memory.memory_folder import open_if_there, segments
from mertd.memory.searched_file import Progress, SearchedFile
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.moments import Moment
from mertd.memory.similarity.segment_index import SegmentIndex
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
        self._groups = OpenGroups()
        self._merged = MergedStatistics()
        self._listed: tuple[int, list[Path]] | None = None  # when the directory had changed last, and its files

    def find(self, vector: NDArray[np.floating], count: int = 10, allowed: SpanFilter = EVERYTHING) -> list[Moment]:
        """Return the `count` moments most similar to a vector, (layers * size,), most similar first.

        Raises `SpaceError` for a vector of another size or without direction, `StoreError` if there is nothing to compare with.
        """
        with self._lock:
            searched = self._prepare()
            merged = self._merged
            return find_similar(vector, searched, merged.centre.mean, merged.calibration, count, allowed)

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

    def _prepare(self) -> list[IndexedSegment]:
        """Bring everything up to date with the files, and return what is searched."""
        everything = self._refreshed()
        full = [part for part in everything if part.closed and part.has_vectors]
        groups = self._groups.update(full, everything[-1].number) if full and has_index_library() else []
        frame = self._open_indexes(full, groups)
        for part in everything:
            if not part.closed:
                part.refresh(self._progress, frame)
        parts = [part for part in everything if part.has_vectors]
        if not parts:
            raise StoreError(f"no vectors of space {self._space} in {self._folder}")
        changed = self._merged.update(
            {part.state: part.statistics for part in parts if part.closed},
            {part.state: part.statistics for part in parts if not part.closed},
        )
        centre = self._merged.centre
        usable = [(group, index) for group, index in groups if not index.stale(centre)]
        alone = _outside(parts, usable)
        for part in alone:
            if (changed or part.index is None) and (not part.closed or has_index_library()):
                part.ensure_index(centre, self._progress, frame)
                frame = part.frame or frame
        indexed = [IndexedSegment(group, index) for group, index in usable]
        return indexed + [IndexedSegment(part.vectors, part.index) for part in alone]

    def _open_indexes(self, full: Sequence[SearchedFile], groups: Sequence[tuple[FileGroup, SegmentIndex]]) -> Frame | None:
        """Open the indexes of files that are in none of the groups, as far as there are any. Return the newest frame."""
        frames = {max(group.numbers): index.frame for group, index in groups}
        if has_index_library():
            for part in _outside(full, groups):
                part.open_index()
                if part.frame is not None:
                    frames[part.number] = part.frame
        return frames[max(frames)] if frames else None

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
        """Return the files, the full ones up to date. A file that was deleted, or written anew, is closed."""
        kept: dict[Path, SearchedFile] = {}
        for path in self._paths():
            part = self._parts.pop(path, None)
            if part is not None and not part.is_current():
                part.close()
                part = None
            if part is None and (segment := open_if_there(path)) is not None:
                part = SearchedFile(segment, self._space)
            if part is not None:
                if part.closed:
                    part.refresh(self._progress)
                kept[path] = part
        for part in self._parts.values():
            part.close()
        self._parts = kept
        return [*kept.values()]


def _outside(parts: Sequence[SearchedFile], groups: Sequence[tuple[FileGroup, SegmentIndex]]) -> list[SearchedFile]:
    """Return the files that are in none of the groups."""
    inside = {number for group, _ in groups for number in group.numbers}
    return [part for part in parts if part.number not in inside]


def has_index_library() -> bool:
    """Return whether USearch is installed."""
    return importlib.util.find_spec("usearch") is not None
