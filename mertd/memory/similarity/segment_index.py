"""The index of a closed segment: built, written beside it, opened as a view, and thrown away when anything is wrong with it.

Vectors are seen in a frame, from the centre of the space at the time of building, which stays in the file, and stored as int8,
each by its own largest number; the exact refinement makes up for it. While the centre moves little, the candidates stay the
same; `stale` says when it has moved too far. Indexes of one frame see a question alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mertd.files import replacing
from mertd.memory.similarity.centre import Centre, centred_units
from mertd.memory.similarity.frame import FITTED, Frame, to_int8
from mertd.memory.similarity.index_layout import IndexContent, IndexFileError, append_content, read_content
from mertd.memory.similarity.thinning import indexed_rows
from mertd.memory.similarity.twins import TwinFinder
from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable, VectorSegment

if TYPE_CHECKING:
    from usearch.index import Index

log = logging.getLogger(__name__)

SUFFIX = ".similar"
"""Ending of an index file's name."""

CONNECTIVITY = 16
"""Neighbours of a vector in the graph."""

EXPANSION_ADD = 200
"""Candidates while a vector is added."""

EXPANSION_SEARCH = 96
"""Candidates while the graph is searched; more are used for more hits."""

LARGE = 65_536
"""Vectors of a graph from which EXPANSION_SEARCH would miss one in twenty of the nearest."""

LARGE_EXPANSION_SEARCH = 384
"""Candidates while such a graph is searched."""

MAX_CENTRE_SHIFT = 0.1
"""Farthest that the centre may have moved since the building, in units of the vectors' spread around it."""

BLOCK = 8_192
"""Vectors that are read and added at once."""


Guard = Callable[[], AbstractContextManager[object]]
"""Keeps a segment from being changed."""


def build_index(
    segment: VectorSegment,
    mean: Floats,
    path: Path,
    threads: int = 1,
    frame: Frame | None = None,
    guard: Guard = nullcontext,
) -> None:
    """Build the index of a segment, seen from `mean`, and put it at `path` in one step.

    `frame`: that of another index, to be used in place of `mean`. `guard`: is entered to write the file, and raises if the
    segment has changed meanwhile.
    """
    table = segment.table().in_order()
    rows = indexed_rows(table)
    if frame is None:
        frame = Frame.fit(segment.vectors(table.ids[rows[:: -(-len(rows) // FITTED) or 1]]), mean)
    index = _new_index(frame.directions)
    twins = TwinFinder(table)
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        units = centred_units(segment.vectors(table.ids[block]), frame.mean)
        useful = np.isfinite(units).all(axis=1) & units.any(axis=1)
        block, units = block[useful], units[useful]
        new = twins.add(block, units, to_int8(units))
        index.add(block[new].astype(np.uint64), to_int8(frame.project(units[new])), threads=threads)
    with guard(), replacing(path) as file:
        if len(index):
            index.save(f"/dev/fd/{file.fileno()}")
        append_content(file, IndexContent(table, frame, segment.digest, len(index), twins.runs()))


class SegmentIndex:
    """An index file that was checked and is mapped into memory."""

    def __init__(self, path: Path, content: IndexContent) -> None:
        """Map the graph of the file at `path`, which `content` was read from. Raises `IndexFileError`."""
        self.table: SegmentTable = content.table
        self.frame = content.frame
        self._graph = _new_index(content.frame.directions)
        self._indexed = content.indexed
        self._runs = content.runs
        if not self._indexed:
            return
        try:
            self._graph.view(str(path))
        except (RuntimeError, ValueError) as error:
            raise IndexFileError(f"{path} is of another version of USearch, or damaged: {error}") from error
        if (len(self._graph), self._graph.ndim) != (self._indexed, self.frame.directions):
            raise IndexFileError(f"{path} is damaged: its graph has {len(self._graph)} vectors in place of {self._indexed}")

    def __len__(self) -> int:
        return self._indexed

    @property
    def view(self) -> Hashable:
        """Equal for indexes that see a question alike."""
        return self.frame.key

    def seen(self, query: NDArray[np.floating]) -> NDArray[np.int8]:
        """Return a vector, (size,), as this index compares it."""
        return self.frame.seen(query)

    def candidates(self, seen: NDArray[Any], limit: int) -> tuple[Ints, Floats]:
        """Return rows of the table near a vector, nearest first, and their approximate similarity. `seen`: of `seen`."""
        if not self._indexed or not seen.any():
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        limit = min(limit, self._indexed)
        expansion = EXPANSION_SEARCH if self._indexed < LARGE else LARGE_EXPANSION_SEARCH
        self._graph.expansion_search = max(expansion, limit)  # type: ignore[misc]  # its setter follows another one
        found: Any = self._graph.search(seen, limit, threads=1)
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
        return centre.shift_from(self.frame.mean) > MAX_CENTRE_SHIFT


def open_index(segment: VectorSegment, path: Path) -> SegmentIndex:
    """Check and map the index of a segment. Raises `IndexFileError`, with the reason, if it must be built again."""
    return SegmentIndex(path, read_content(path, segment.digest, segment.size))


def ensure_index(
    segment: VectorSegment, folder: Path, centre: Centre, frame: Frame | None = None, guard: Guard = nullcontext
) -> SegmentIndex:
    """Return the index of a segment, from its file in `folder` if that is in order, otherwise built anew.

    `frame`: that of another index, which is used if the centre has not moved too far from it. `guard`: as in `build_index`.
    """
    path = folder / f"{segment.name}{SUFFIX}"
    try:
        found = open_index(segment, path)
        if not found.stale(centre):
            return found
        reason = f"the centre has moved by {centre.shift_from(found.frame.mean):.2f} of the spread"
    except IndexFileError as error:
        reason = str(error)
    log.info("building the index of segment %s: %s", segment.name, reason)
    if frame is not None and (len(frame.mean) != segment.size or centre.shift_from(frame.mean) > MAX_CENTRE_SHIFT):
        frame = None
    build_index(segment, centre.mean, path, frame=frame, guard=guard)
    return open_index(segment, path)


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
