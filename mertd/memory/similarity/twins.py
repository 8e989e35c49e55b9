"""Windows that sound the same as one that is indexed: a tone that lasts for hours, a jingle that returns bit for bit.

A graph of equal vectors has no directions to go: their neighbours are each other, and what lies behind them is not found. So
one of them goes into the graph and stands for the others.

Rules of this file: no I/O.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable

SAME_SOUND = 0.999
"""Centred cosine from which a window continues the sound of the one before it."""


class TwinFinder:
    """Sorts indexed rows into new ones and twins of earlier ones, block by block, in the order of the table."""

    def __init__(self, table: SegmentTable) -> None:
        self._table = table
        self._leaders: dict[bytes, int] = {}  # hash of a vector -> its row
        self._runs: list[list[int]] = []  # leader, first row, last row
        self._unit: Floats | None = None  # of the current run's leader

    def add(self, rows: Ints, units: Floats, vectors: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Return for each of `rows` whether it is new. `units`: (rows, size), of length 1; `vectors`: the same, as int8."""
        new = np.zeros(len(rows), bool)
        for at, row in enumerate(rows.tolist()):
            if self._continues(row) and self._unit is not None and float(units[at] @ self._unit) >= SAME_SOUND:
                self._runs[-1][2] = row
                continue
            key = hashlib.blake2b(vectors[at].tobytes(), digest_size=16).digest()
            leader = self._leaders.setdefault(key, row)
            new[at] = leader == row
            self._runs.append([leader, row, row])
            self._unit = units[at].copy()
        return new

    def runs(self) -> Ints:
        """Return (n, 3): row in the graph, first and last row of a stretch that it stands for; ordered by the first column."""
        runs = np.array(self._runs, np.int64).reshape(-1, 3)
        return runs[np.argsort(runs[:, 0], kind="stable")]

    def _continues(self, row: int) -> bool:
        """Return whether a row follows the last one on the same stream without a hole."""
        if not self._runs:
            return False
        last, table = self._runs[-1][2], self._table
        return bool(table.streams[last] == table.streams[row] and table.start_ns[row] <= table.end_ns[last])
