"""The vectors of one space in one file, as the search for similar moments wants them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.memory.half_floats import unpack_rows
from mertd.memory.queries import ID_SHIFT
from mertd.memory.rows import nominal_ns
from mertd.memory.segment import Segment, explained
from mertd.memory.similarity.vector_segment import Ints, SegmentTable

ROW = (1 << ID_SHIFT) - 1
"""The bits of an id that are the row."""


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
            last, count = self._segment.db.execute("SELECT max(id), count(*) FROM embeddings").fetchone()
        return f"{self._segment.number}-{last}-{count}-{self._segment.fact('forgotten')}"

    def table(self, after: int = 0) -> SegmentTable:
        """Return when each vector was heard. `after`: only rows behind this one."""
        marks = ", ".join("?" * len(self._forms))
        with explained(self.path):
            found = self._segment.db.execute(
                "SELECT embeddings.id, stream, start_ns, start_ns + stretch_ns, form FROM embeddings"
                " JOIN sources ON sources.id = source"
                f" WHERE embeddings.id > ? AND form IN ({marks}) ORDER BY embeddings.id",
                (after, *self._forms),
            ).fetchall()
        columns = list(zip(*found, strict=True)) or [()] * 5
        lengths = np.array([self._forms[form] for form in columns[4]], np.int64)
        return SegmentTable(
            ids=np.array(columns[0], np.int64) + (self._segment.number << ID_SHIFT),
            start_ns=np.array(columns[2], np.int64),
            end_ns=np.array(columns[3], np.int64) + lengths,
            streams=np.array(columns[1], np.int32),
        )

    def vectors(self, ids: Ints) -> NDArray[np.float32]:
        """Return the vectors with these ids; of one that was forgotten meanwhile, what is not finite."""
        rows = (np.asarray(ids) & ROW).tolist()
        with explained(self.path):
            found = self._segment.db.execute(
                "SELECT id, exponent, vector FROM embeddings WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
                (json.dumps(rows),),
            ).fetchall()
        found = [one for one in found if len(one[2]) == 2 * self._size]
        vectors = np.full((len(rows), self._size), np.nan, np.float32)
        if found:
            known = np.array([one[0] for one in found], np.int64)
            values = unpack_rows(np.array([one[1] for one in found], np.int32), [one[2] for one in found])
            wanted = np.array(rows, np.int64)
            place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            there = known[place] == wanted
            vectors[there] = values[place[there]]
        return vectors
