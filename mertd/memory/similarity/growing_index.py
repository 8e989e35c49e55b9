"""The windows of a segment that is being written, kept in memory: all of the newest, and one in six of the others.

All are compared, which takes a few milliseconds; a graph would have to be built whenever the search begins anew.

Rules of this file: no I/O; windows come in the order of their ids, and none is ever taken out.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.exact_scan import best_rows
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.twins import SAME_SOUND
from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable

RECENT = 16_384
"""Windows of which none is left out: a day of one stream at a hop of 5 s, 8 MB in 128 directions."""

CHUNK = 2_048
"""Windows that become old together."""


@dataclass(frozen=True)
class _Chunk:
    """Windows in the order in which they came; arrays of one length."""

    arrivals: Ints  # numbers of the windows, in that order
    slots: Ints  # windows of one stream in one slot overlap the first of them
    vectors: Floats  # seen from the origin, in the directions of the frame
    squares: NDArray[np.float64]  # of their lengths


@dataclass(frozen=True)
class _View:
    """All windows that are compared, in the order of the chunks, as they are seen from a mean."""

    mean: Floats
    lengths: Floats  # of the vectors, from there
    arrivals: Ints
    slots: Ints
    count: int  # different slots


class GrowingIndex:
    """Windows in order of arrival; it answers as `SegmentIndex` does."""

    def __init__(self, size: int, frame: Frame | None = None) -> None:
        """`size`: numbers in a vector. `frame`: of an index of the same space; its directions are compared."""
        self._frame = Frame(np.zeros(size, np.float32), np.zeros((size, 0), np.float32)) if frame is None else frame
        self._arrived: list[SegmentTable] = []
        self._ordered: tuple[SegmentTable, Ints] | None = None  # the table, and the place in it of each window that came
        self._slots = _Slots()
        self._recent: list[_Chunk] = []
        self._old: list[_Chunk] = []
        self._lasts: dict[int, int] = {}  # arrival of an old window -> that of the last one of the sound that it stands for
        self._origin: Floats | None = None
        self._view: _View | None = None

    def __len__(self) -> int:
        return self._view.count if self._view is not None else 0

    def add(self, table: SegmentTable, vectors: NDArray[np.floating], spread: float) -> None:
        """Add windows. `spread`: root mean square distance of the vectors of the space from their mean."""
        begin = sum(map(len, self._arrived))
        self._arrived.append(table)
        self._ordered = self._view = None
        slots = self._slots.of(table)
        given = vectors.astype(np.float32)
        finite = np.flatnonzero(np.isfinite(given).all(axis=1))
        if self._origin is None and len(finite):
            self._origin = given[finite[0]].copy()
        origin = self._frame.mean if self._origin is None else self._origin
        for first in range(0, len(finite), CHUNK):
            rows = finite[first : first + CHUNK]
            moved = self._frame.project(given[rows] - origin)
            squares = np.einsum("ij,ij->i", moved, moved, dtype=np.float64)
            self._recent.append(_Chunk(begin + rows, slots[rows], moved, squares))
        while sum(len(chunk.arrivals) for chunk in self._recent[1:]) >= RECENT:
            self._thin(self._recent.pop(0), 2 * (1 - SAME_SOUND) * spread * spread)

    def see_from(self, mean: Floats) -> None:
        """Compare from this mean, from now on."""
        if self._origin is None or (self._view is not None and (mean == self._view.mean).all()):
            return
        moved = self._frame.project((mean - self._origin)[None])[0].astype(np.float64)
        squares = self._column("squares") - 2 * self._products(moved.astype(np.float32)).astype(np.float64) + moved @ moved
        lengths = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
        slots = self._column("slots")
        self._view = _View(mean, lengths, self._column("arrivals"), slots, len(np.unique(slots)))

    @property
    def table(self) -> SegmentTable:
        """When all windows were heard, those that are not compared included; ordered by stream and start."""
        return self._in_order()[0]

    @property
    def view(self) -> Hashable:
        """Nothing else sees a question as this does."""
        return id(self)

    def seen(self, query: NDArray[np.floating]) -> Floats:
        """Return a vector, (size,), as it is compared here."""
        mean = self._frame.mean if self._view is None else self._view.mean
        unit = self._frame.project(centred_units(query[None], mean))[0]
        return np.asarray(unit / (np.linalg.norm(unit) or 1), np.float32)

    def candidates(self, seen: NDArray[np.float32], limit: int) -> tuple[Ints, Floats]:
        """Return rows of the table near a vector, nearest first, and their similarity: of each slot the best one."""
        view = self._view
        if self._origin is None or view is None:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        scores = self._products(seen) - self._frame.project((view.mean - self._origin)[None])[0] @ seen
        scores /= np.where(view.lengths > 0, view.lengths, 1)
        best_of = np.full(self._slots.count, -np.inf, np.float32)
        np.maximum.at(best_of, view.slots, scores)
        leading = np.flatnonzero(scores == best_of[view.slots])
        leading = leading[np.unique(view.slots[leading], return_index=True)[1]]  # equal ones: the first of them
        best = leading[best_rows(scores[leading], limit)]
        best = best[np.argsort(-scores[best], kind="stable")]
        return self._in_order()[1][view.arrivals[best]], scores[best]

    def runs_of(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the stretches that candidates stand for: first rows, last rows, and the place of the candidate in `rows`."""
        place = self._in_order()[1]
        lasts = {int(place[first]): int(place[last]) for first, last in self._lasts.items()}
        last = np.array([lasts.get(row, row) for row in rows.tolist()], np.int64)
        return rows, last, np.arange(len(rows))

    def _thin(self, chunk: _Chunk, same: float) -> None:
        """Keep the first window of each slot, unless it continues the sound of the last one that was kept of its stream."""
        _, firsts = np.unique(chunk.slots, return_index=True)
        kept: list[int] = []
        for row in np.sort(firsts).tolist():
            arrival, slot = int(chunk.arrivals[row]), int(chunk.slots[row])
            if self._slots.begun_earlier(slot, arrival):
                continue
            leader = self._slots.leader_before(slot)
            if leader is not None:
                distance = chunk.vectors[row] - leader[1]
                if float(distance @ distance) <= same:
                    self._lasts[leader[0]] = arrival
                    self._slots.follow(slot, leader)
                    continue
            self._slots.follow(slot, (arrival, chunk.vectors[row].copy()))
            kept.append(row)
        rows = np.array(kept, np.int64)
        self._old.append(_Chunk(chunk.arrivals[rows], chunk.slots[rows], chunk.vectors[rows], chunk.squares[rows]))

    def _column(self, name: str) -> Ints:
        found: Ints = np.concatenate([getattr(chunk, name) for chunk in [*self._old, *self._recent]])
        return found

    def _products(self, vector: Floats) -> Floats:
        """Return the product of a vector with each that is here. BLAS would have its threads wait for each other here."""
        chunks = [*self._old, *self._recent]
        found: Floats = np.concatenate([np.einsum("ij,j->i", chunk.vectors, vector) for chunk in chunks])
        return found

    def _in_order(self) -> tuple[SegmentTable, Ints]:
        if self._ordered is None:
            names = ("ids", "start_ns", "end_ns", "streams")
            whole = SegmentTable(*(np.concatenate([getattr(part, name) for part in self._arrived]) for name in names))
            self._arrived = [whole]
            order = np.lexsort((whole.ids, whole.start_ns, whole.streams))
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order))
            self._ordered = (whole.take(order), place)
        return self._ordered


Leader = tuple[int, Floats]
"""Arrival and vector of an old window that stands for others."""


class _Slots:
    """Divides the windows of each stream into slots: a window that does not overlap the first of the slot begins another."""

    def __init__(self) -> None:
        self.count = 0
        self._open: dict[
            int, tuple[int, tuple[int, int], int]
        ] = {}  # stream -> slot, times of its first window, end of the last one
        self._before: list[int | None] = []  # of each slot: the one before it without a hole between
        self._firsts: dict[int, int] = {}  # slot -> arrival of the window that was thinned first
        self._leaders: dict[int, Leader] = {}  # slot -> what stands for it, until the next one is thinned

    def of(self, table: SegmentTable) -> Ints:
        """Return the slot of each window."""
        found = np.empty(len(table), np.int64)
        columns = (table.streams.tolist(), table.start_ns.tolist(), table.end_ns.tolist())
        for row, (stream, start, end) in enumerate(zip(*columns, strict=True)):
            slot, (since, until), reached = self._open.get(stream, (-1, (0, 0), -1))
            if slot < 0 or not since <= start < until:
                self._before.append(slot if slot >= 0 and since <= start <= reached else None)
                slot, (since, until) = self.count, (start, end)
                self.count += 1
            self._open[stream] = (slot, (since, until), end)
            found[row] = slot
        return found

    def begun_earlier(self, slot: int, arrival: int) -> bool:
        """Return whether an earlier window of a slot was thinned."""
        return self._firsts.setdefault(slot, arrival) < arrival

    def leader_before(self, slot: int) -> Leader | None:
        """Return what stands for the slot before."""
        before = self._before[slot]
        return None if before is None else self._leaders.pop(before, None)

    def follow(self, slot: int, leader: Leader) -> None:
        """Note what stands for a slot."""
        self._leaders[slot] = leader
