"""Reads the windows of one stream and span from the memory, a block at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.half_floats import unpack
from mertd.memory.memory_folder import open_if_there, opened, segments
from mertd.memory.queries import FOREVER_NS, marks
from mertd.memory.rows import nominal_ns
from mertd.memory.segment import Segment, explained
from mertd.view.span_sketch import Windows

ROWS = 512
"""Windows of a block."""

LATEST = 9
"""Windows whose distance is the usual one of a stream."""

EPOCH_BITS = 24
"""Bits of the number of a run that tell its epochs apart."""

EPOCHS = 1 << EPOCH_BITS
"""Epochs that are told apart."""

NEVER = (FOREVER_NS, -FOREVER_NS)
"""The times of a file without messages."""

AROUND_NS = 3_600_000_000_000
"""Nanoseconds around a time in which a window is looked for."""


class MemoryFiles:
    """The files of a memory. Full ones never change, so it keeps when their messages were, and opens only what is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spans: dict[Path, tuple[int, int]] = {}

    def within(self, since_ns: int, until_ns: int) -> Iterator[Segment]:
        """Yield the files with messages of a time, oldest first, each open until the next one. Raises `StoreError`."""
        for path in segments(self.folder):
            known = self._spans.get(path)
            if known is not None and not (known[0] < until_ns and known[1] >= since_ns):
                continue
            segment = open_if_there(path)
            if segment is None:
                continue
            with segment:
                span = segment.span_ns() or NEVER
                if segment.closed:
                    self._spans[segment.path] = span
                if span[0] < until_ns and span[1] >= since_ns:
                    yield segment


def read_windows(files: MemoryFiles, key: StreamKey, since_ns: int, until_ns: int, step: int = 1) -> Iterator[Windows]:
    """Yield the windows that begin in this time, in order within each file. `step`: of how many one is read.

    Raises `StoreError`.
    """
    for segment in files.within(since_ns, until_ns):
        sources, forms = _sources(segment, key), _forms(segment, key)
        with explained(segment.path):
            cursor = segment.db.execute(
                "SELECT source, form, epoch, first, start_ns, stretch_ns, rms_dbfs, vector FROM embeddings"
                f" WHERE start_ns >= ? AND start_ns < ? AND +source IN ({marks(sources)}) AND +form IN ({marks(forms)})"
                " AND seq % ? = 0 ORDER BY start_ns",
                (since_ns, until_ns, *sources, *forms, step),
            )
            while rows := cursor.fetchmany(ROWS):
                whole = [row for row in rows if len(row[-1]) == 2 * key.size]
                if whole:
                    yield _windows(whole, forms, sources, key)


def nearest_window(
    files: MemoryFiles, key: StreamKey, when_ns: int
) -> tuple[int, int, np.ndarray[Any, np.dtype[np.float32]]] | None:
    """Return start, end and vector of the window whose middle is nearest to a time; None if there is none within an hour.

    Raises `StoreError`.
    """
    found: list[tuple[int, int, int, int, int, bytes]] = []
    for segment in files.within(when_ns - AROUND_NS, when_ns + AROUND_NS):
        sources, forms = _sources(segment, key), _forms(segment, key)
        for beyond, order in (("<=", "DESC"), (">", "ASC")):
            rows = segment.rows(
                "SELECT form, start_ns, stretch_ns, exponent, vector FROM embeddings"
                f" WHERE start_ns {beyond} ? AND abs(start_ns - ?) < ? AND +source IN ({marks(sources)})"
                f" AND +form IN ({marks(forms)}) ORDER BY start_ns {order} LIMIT 1",
                (when_ns - forms_half_ns(forms, key), when_ns, AROUND_NS, *sources, *forms),
            )
            for form, start_ns, stretch_ns, exponent, vector in rows:
                end_ns = start_ns + nominal_ns(key.length, forms[form]) + stretch_ns
                distance = abs((start_ns + end_ns) // 2 - when_ns)
                found.append((distance, segment.number, start_ns, end_ns, exponent, vector))
    if not found:
        return None
    _, _, start_ns, end_ns, exponent, vector = min(found)
    return start_ns, end_ns, unpack(exponent, vector)


def bounds_ns(
    folder: Path, key: StreamKey, since_ns: int = -FOREVER_NS, until_ns: int = FOREVER_NS
) -> tuple[int, int, int] | None:
    """Return when the first window of a time began and the last one, and the usual distance of the last windows.

    None if there is none. Raises `StoreError`.
    """
    first, last = (_starts(folder, key, since_ns, until_ns, order) for order in ("ASC", "DESC"))
    if not first or not last:
        return None
    distances = sorted(a - b for a, b in pairwise(last) if a > b)
    return first[0], last[0], distances[len(distances) // 2] if distances else 0


def _starts(folder: Path, key: StreamKey, since_ns: int, until_ns: int, order: str) -> list[int]:
    """Return when the first windows of a time began, or the last ones."""
    for segment in opened(folder, newest_first=order == "DESC"):
        sources, forms = _sources(segment, key), _forms(segment, key)
        if sources and forms:
            rows = segment.rows(
                f"SELECT start_ns FROM embeddings WHERE start_ns >= ? AND start_ns < ? AND +source IN ({marks(sources)})"
                f" AND +form IN ({marks(forms)}) ORDER BY start_ns {order} LIMIT {LATEST}",
                (since_ns, until_ns, *sources, *forms),
            )
            if rows:
                return [row[0] for row in rows]
    return []


def is_trained(folder: Path, key: StreamKey) -> bool:
    """Return whether the vectors of a stream come from trained weights. Raises `StoreError`."""
    for segment in opened(folder, newest_first=True):
        found = segment.rows("SELECT trained FROM forms WHERE space = ? ORDER BY id DESC LIMIT 1", (key.space,))
        if found:
            return bool(found[0][0])
    return False


def marks_of(files: MemoryFiles, key: StreamKey, since_ns: int, until_ns: int) -> list[tuple[str, int, bytes]]:
    """Return the changes and returns of a stream: name, time and detail as msgpack. Raises `StoreError`."""
    found: list[tuple[str, int, bytes]] = []
    for segment in files.within(since_ns, until_ns):
        sources = _sources(segment, key)
        found += segment.rows(
            "SELECT event, time_ns, detail FROM events WHERE time_ns >= ? AND time_ns < ?"
            f" AND event IN ('change', 'return') AND +source IN ({marks(sources)}) ORDER BY time_ns",
            (since_ns, until_ns, *sources),
        )
    return sorted(found, key=lambda mark: mark[1])


def forms_half_ns(forms: dict[int, int], key: StreamKey) -> int:
    """Return half the length of a window, in nanoseconds."""
    return nominal_ns(key.length, next(iter(forms.values()), 0)) // 2


def _windows(rows: list[tuple[Any, ...]], forms: dict[int, int], sources: dict[int, int], key: StreamKey) -> Windows:
    source, form, epoch, first, start_ns, stretch_ns, rms_dbfs, vectors = zip(*rows, strict=True)
    lengths_ns = np.array([nominal_ns(key.length, forms[number]) for number in form], np.int64)
    starts = np.array(start_ns, np.int64)
    return Windows(
        run=np.array([sources[number] << EPOCH_BITS for number in source], np.int64) + np.array(epoch, np.int64) % EPOCHS,
        first=np.array(first, np.int64),
        length=np.full(len(rows), key.length, np.int64),
        start_ns=starts,
        end_ns=starts + lengths_ns + np.array(stretch_ns, np.int64),
        rms_dbfs=np.array(rms_dbfs, np.float32),
        directions=_directions(vectors, key.size),
    )


def _directions(vectors: tuple[bytes, ...], size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return vectors at length 1, (n, size). Their exponents say nothing of where they point."""
    values = np.frombuffer(b"".join(vectors), "<f2").reshape(len(vectors), size).astype(np.float32)
    peaks = np.abs(values).max(axis=1, initial=0.0)
    values /= np.where(peaks > 0, peaks, 1)[:, None]
    values /= np.maximum(np.sqrt(np.einsum("ij,ij->i", values, values)), 1e-30)[:, None]
    return np.asarray(values, np.float32)


def _sources(segment: Segment, key: StreamKey) -> dict[int, int]:
    """Return the stream's runs in a file, each with a number that is the same in all files."""
    rows = segment.rows(
        "SELECT sources.id, boot FROM sources JOIN streams ON streams.id = stream WHERE daemon = ? AND name = ?",
        (key.daemon, key.stream),
    )
    return {number: zlib.crc32(boot) for number, boot in rows}


def _forms(segment: Segment, key: StreamKey) -> dict[int, int]:
    """Return the forms of the stream's windows in a file, each with its samples a second."""
    statement = "SELECT id, rate FROM forms WHERE space = ? AND rows * size = ? AND length = ?"
    return dict(segment.rows(statement, (key.space, key.size, key.length)))
