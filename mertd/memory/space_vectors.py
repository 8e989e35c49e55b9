"""The vectors of one space in one file, as the search for similar moments wants them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.memory.half_floats import unpack_rows
from mertd.memory.queries import ID_SHIFT
from mertd.memory.rows import nominal_ns
from mertd.memory.segment import Segment, explained
from mertd.memory.similarity.vector_segment import Ints, SegmentTable

ROW = (1 << ID_SHIFT) - 1
"""The bits of an id that are the row."""

SHORT_STRETCH = 3
"""Mean rows of a stretch without a gap below which a statement for each takes longer than one for all."""


class SpaceVectors:
    """A `VectorSegment`: one shape of vectors of one space. It keeps its file open, and may be used by one thread at a time."""

    def __init__(self, segment: Segment, space: str) -> None:
        self._segment = segment
        self._space = space
        self._name = f"{segment.number:06d}.{space}"
        self.reread()

    def reread(self) -> None:
        """Look again for forms of the space: a file that is being written gets new ones."""
        forms = self._segment.forms()
        chosen = {number: form for number, form in forms.items() if form[0] == self._space}
        self._forms = {number: nominal_ns(form[9], form[8]) for number, form in chosen.items()}
        shapes = [form[10] * form[11] for form in chosen.values()]
        self._size: int = shapes[-1] if shapes else 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def path(self) -> Path:
        return self._segment.path

    @property
    def closed(self) -> bool:
        return self._segment.closed

    @property
    def size(self) -> int:
        return self._size

    @property
    def digest(self) -> str:
        """Changes with what is added to the file and with what is forgotten."""
        with explained(self.path):
            (last,) = self._segment.db.execute("SELECT max(id) FROM embeddings").fetchone()
        begun, forgotten = self._segment.fact("begun_ns"), self._segment.fact("forgotten")
        return f"{self._segment.number}-{begun}-{last}-{forgotten}"

    def table(self) -> SegmentTable:
        """Return when each vector was heard."""
        return self._table(self._select("", 0, -1))

    def read(self, after: int, limit: int) -> tuple[SegmentTable, NDArray[np.float32]]:
        """Return the next windows behind a row, and their vectors. Of an unexpected length, a vector is not finite."""
        found = self._select(", exponent, vector", after, limit)
        table = self._table(found)
        whole = [len(row[6]) == 2 * self._size for row in found]
        vectors = np.full((len(found), self._size), np.nan, np.float32)
        if any(whole):
            rows = [row for row in found if len(row[6]) == 2 * self._size]
            vectors[np.array(whole)] = unpack_rows(np.array([row[5] for row in rows], np.int32), [row[6] for row in rows])
        return table, vectors

    def _select(self, columns: str, after: int, limit: int) -> list[tuple[Any, ...]]:
        """Return id, stream, start, stretched start, form and more columns of rows, by id."""
        marks = ", ".join("?" * len(self._forms))
        with explained(self.path):
            return self._segment.db.execute(
                f"SELECT embeddings.id, stream, start_ns, start_ns + stretch_ns, form{columns} FROM embeddings"
                " JOIN sources ON sources.id = source"
                f" WHERE embeddings.id > ? AND form IN ({marks}) ORDER BY embeddings.id LIMIT ?",
                (after, *self._forms, limit),
            ).fetchall()

    def _table(self, found: list[tuple[Any, ...]]) -> SegmentTable:
        columns = list(zip(*(row[:5] for row in found), strict=True)) or [()] * 5
        lengths = np.array([self._forms[form] for form in columns[4]], np.int64)
        return SegmentTable(
            ids=np.array(columns[0], np.int64) + (self._segment.number << ID_SHIFT),
            start_ns=np.array(columns[2], np.int64),
            end_ns=np.array(columns[3], np.int64) + lengths,
            streams=np.array(columns[1], np.int32),
        )

    def vectors(self, ids: Ints) -> NDArray[np.float32]:
        """Return the vectors with these ids; of one that was forgotten meanwhile, what is not finite."""
        wanted = np.asarray(ids, np.int64) & ROW
        found = self._rows(np.unique(wanted))
        found = [one for one in found if len(one[2]) == 2 * self._size]
        vectors = np.full((len(wanted), self._size), np.nan, np.float32)
        if found:
            known = np.array([one[0] for one in found], np.int64)
            values = unpack_rows(np.array([one[1] for one in found], np.int32), [one[2] for one in found])
            place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            there = known[place] == wanted
            vectors[there] = values[place[there]]
        return vectors

    def _rows(self, numbers: Ints) -> list[tuple[int, int, bytes]]:
        """Return id, exponent and vector of rows, by id. `numbers`: their ids, in order."""
        select = "SELECT id, exponent, vector FROM embeddings WHERE id"
        db = self._segment.db
        cuts = np.flatnonzero(np.diff(numbers) != 1)
        with explained(self.path):
            if SHORT_STRETCH * (len(cuts) + 1) > len(numbers):  # of several streams at once: the next id is of another one
                given = json.dumps(numbers.tolist())
                return db.execute(f"{select} IN (SELECT value FROM json_each(?)) ORDER BY id", (given,)).fetchall()
            firsts, lasts = numbers[[0, *(cuts + 1)]], numbers[[*cuts, -1]]
            stretches = zip(firsts.tolist(), lasts.tolist(), strict=True)
            return [row for stretch in stretches for row in db.execute(f"{select} BETWEEN ? AND ?", stretch)]
