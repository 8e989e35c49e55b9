"""The index of a closed segment: built, written beside it, opened as a view, and thrown away when anything is wrong with it.

Vectors are seen from the centre of the space at the time of building, which stays in the file, and stored as int8, each by its
own largest number: half the size of float16, and the exact refinement makes up for it. While the centre moves little, the
candidates stay the same; `stale` says when it has moved too far.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mertd.files import replacing
from mertd.memory.similarity.centre import Centre, centred_units
from mertd.memory.similarity.index_layout import IndexContent, IndexFileError, append_content, read_content
from mertd.memory.similarity.thinning import indexed_rows
from mertd.memory.similarity.twins import TwinFinder
from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable, VectorSegment

if TYPE_CHECKING:
    from usearch.index import Index

log = logging.getLogger(__name__)

SUFFIX = ".similar"
"""Ending of an index file's name."""

CONNECTIVITY = 32
"""Neighbours of a vector in the graph."""

EXPANSION_ADD = 200
"""Candidates while a vector is added."""

EXPANSION_SEARCH = 128
"""Candidates while the graph is searched; more are used for more hits."""

MAX_CENTRE_SHIFT = 0.1
"""Farthest that the centre may have moved since the building, in units of the vectors' spread around it."""

BLOCK = 8_192
"""Vectors that are read and added at once."""

LEVELS = 127
"""Largest number of an int8 vector."""


def build_index(
    segment: VectorSegment,
    mean: Floats,
    path: Path,
    threads: int = 1,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> None:
    """Build the index of a segment, seen from `mean`, and put it at `path` in one step.

    `progress` is called with the vectors added so far, and with their total number.
    """
    table = segment.table().in_order()
    rows = indexed_rows(table)
    index = _new_index(segment.size)
    twins = TwinFinder(table)
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        units = centred_units(segment.vectors(table.ids[block]), mean)
        useful = np.isfinite(units).all(axis=1) & units.any(axis=1)
        block, units = block[useful], units[useful]
        vectors = to_int8(units)
        new = twins.add(block, units, vectors)
        index.add(block[new].astype(np.uint64), vectors[new], threads=threads)
        progress(min(first + BLOCK, len(rows)), len(rows))
    with replacing(path) as file:
        if len(index):
            index.save(f"/dev/fd/{file.fileno()}")
        append_content(file, IndexContent(table, mean, segment.digest, len(index), twins.runs()))


class SegmentIndex:
    """An index file that was checked and is mapped into memory."""

    def __init__(self, path: Path, content: IndexContent) -> None:
        """Map the graph of the file at `path`, which `content` was read from. Raises `IndexFileError`."""
        self.table: SegmentTable = content.table
        self.mean: Floats = content.mean
        self._graph = _new_index(len(content.mean))
        self._indexed = content.indexed
        self._runs = content.runs
        if not self._indexed:
            return
        try:
            self._graph.view(str(path))
        except (RuntimeError, ValueError) as error:
            raise IndexFileError(f"{path} is of another version of USearch, or damaged: {error}") from error
        if (len(self._graph), self._graph.ndim) != (self._indexed, len(self.mean)):
            raise IndexFileError(f"{path} is damaged: its graph has {len(self._graph)} vectors in place of {self._indexed}")

    def __len__(self) -> int:
        return self._indexed

    def candidates(self, query: NDArray[np.floating], limit: int) -> tuple[Ints, Floats]:
        """Return rows of the table near a vector, (size,), nearest first, and their approximate similarity."""
        unit = to_int8(centred_units(query[None], self.mean))[0]
        if not self._indexed or not unit.any():
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        limit = min(limit, self._indexed)
        self._graph.expansion_search = max(EXPANSION_SEARCH, limit)  # type: ignore[misc]  # its setter follows another one
        found: Any = self._graph.search(unit, limit, threads=1)
        rows = np.asarray(found.keys).astype(np.int64)
        known = (rows >= 0) & (rows < len(self.table))
        return rows[known], 1 - np.asarray(found.distances, np.float32)[known]

    def runs_of(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the stretches that candidates stand for: first rows, last rows, and the place of the candidate in `rows`."""
        first = np.searchsorted(self._runs[:, 0], rows, "left")
        counts = np.maximum(np.searchsorted(self._runs[:, 0], rows, "right") - first, 0)
        place = np.repeat(np.arange(len(rows)), counts)
        at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        return self._runs[at, 1], self._runs[at, 2], place

    def stale(self, centre: Centre) -> bool:
        """Return whether the centre has moved so far that the index should be built again."""
        return centre.shift_from(self.mean) > MAX_CENTRE_SHIFT


def open_index(segment: VectorSegment, path: Path) -> SegmentIndex:
    """Check and map the index of a segment. Raises `IndexFileError`, with the reason, if it must be built again."""
    return SegmentIndex(path, read_content(path, segment.digest, segment.size))


def ensure_index(segment: VectorSegment, folder: Path, centre: Centre, threads: int = 1) -> SegmentIndex:
    """Return the index of a segment, from its file in `folder` if that is in order, otherwise built anew."""
    path = folder / f"{segment.name}{SUFFIX}"
    try:
        found = open_index(segment, path)
        if not found.stale(centre):
            return found
        reason = f"the centre has moved by {centre.shift_from(found.mean):.2f} of the spread"
    except IndexFileError as error:
        reason = str(error)
    log.info("building the index of segment %s: %s", segment.name, reason)
    build_index(segment, centre.mean, path, threads)
    return open_index(segment, path)


def to_int8(units: Floats) -> NDArray[np.int8]:
    """Return vectors of length 1, (n, size), as int8: each by its own largest number, which a cosine does not see."""
    largest = np.abs(units).max(axis=1, keepdims=True, initial=0)
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num(units * (LEVELS / np.where(largest > 0, largest, 1)), posinf=0, neginf=0)
    return np.rint(scaled).astype(np.int8)


def _new_index(size: int) -> Index:
    from usearch.index import Index

    return Index(
        ndim=size,
        metric="cos",
        dtype="i8",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
        enable_key_lookups=False,  # keys are rows: nothing looks them up, and opening a large file would take seconds
    )
