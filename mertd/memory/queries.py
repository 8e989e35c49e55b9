"""What is read from one file of the memory: messages by time or number, and vectors as arrays."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.memory import rows
from mertd.memory.half_floats import unpack_rows
from mertd.memory.holes import Hole
from mertd.memory.rows import EMBEDDING_COLUMNS, EVENT_COLUMNS
from mertd.memory.segment import KIND_TABLES, Segment, explained
from mertd.memory.time_words import parse_time
from mertd.wire import Embedding, Event

BLOCK_ROWS = 8_192
"""Vectors of one block: 25 MB as float32."""

FOREVER_NS = (1 << 63) - 1
"""Later than any time that is stored."""

TIMES = {"embedding": "start_ns", "event": "time_ns"}
"""Columns with the time of a message."""

ID_SHIFT = 32
"""Bits of an id that are left for the row; the others are the number of the file."""


@dataclass(frozen=True)
class Selection:
    """Which messages: of a time, by the start of windows, and of some streams (none: all), by name."""

    since_ns: int = -FOREVER_NS
    until_ns: int = FOREVER_NS
    streams: tuple[str, ...] = ()

    @staticmethod
    def between(begin: str | None, end: str | None, now_ns: int, streams: Sequence[str] | None = None) -> Selection:
        """Return what was heard between two times as people write them; None: without a limit. Raises `UsageError`."""
        return Selection(
            since_ns=parse_time(begin, now_ns) if begin is not None else -FOREVER_NS,
            until_ns=parse_time(end, now_ns) if end is not None else FOREVER_NS,
            streams=tuple(streams or ()),
        )


@dataclass(frozen=True)
class Block:
    """Vectors of one space, in the order in which they came."""

    ids: NDArray[np.int64]  # file and row; unique in the memory
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    streams: NDArray[np.int32]  # as `Memory.streams` names them
    vectors: NDArray[np.float32]  # (n, layers * hidden size)


def messages(segment: Segment, kinds: Sequence[str], selection: Selection) -> Iterator[Embedding | Event]:
    """Yield the messages of a selection, by time. Raises `StoreError`."""
    found = [_messages_of(segment, kind, selection) for kind in kinds]
    return heapq.merge(*found, key=when_ns)


def numbered(segment: Segment, kind: str, source: int, first: int, end: int, limit: int) -> list[Embedding | Event]:
    """Return messages with first <= `seq` < end of a source of this file, up to a limit. Raises `StoreError`."""
    where = "source = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
    return list(_read(segment, kind, where, (source, first, end, limit)))


def numbered_within(
    segment: Segment, kind: str, source: int, first: int, selection: Selection, limit: int
) -> list[Embedding | Event]:
    """Return messages of a source of this file with first <= `seq` from the time of a selection, by `seq`, up to a limit.

    Raises `StoreError`.
    """
    where = f"source = ? AND seq >= ? AND {TIMES[kind]} >= ? AND {TIMES[kind]} < ? ORDER BY seq LIMIT ?"
    return list(_read(segment, kind, where, (source, first, selection.since_ns, selection.until_ns, limit)))


def first_within(segment: Segment, kind: str, source: int, selection: Selection) -> int | None:
    """Return the lowest `seq` that a source of this file has from the time of a selection; None if it has none.

    Raises `StoreError`.
    """
    time = TIMES[kind]
    where = f"source = ? AND {time} >= ? AND {time} < ? ORDER BY seq LIMIT 1"
    with explained(segment.path):
        query = f"SELECT seq FROM {KIND_TABLES[kind]} WHERE {where}"
        found = segment.db.execute(query, (source, selection.since_ns, selection.until_ns)).fetchone()
    return None if found is None else int(found[0])


def bounds_within(segment: Segment, kind: str, selection: Selection) -> tuple[int, int] | None:
    """Return the times of the first and the last message of a kind within a time, of all streams; None if there is none.

    Raises `StoreError`.
    """
    time, table = TIMES[kind], KIND_TABLES[kind]
    with explained(segment.path):
        bounds = [
            segment.db.execute(
                f"SELECT {edge}({time}) FROM {table} WHERE {time} >= ? AND {time} < ?", (selection.since_ns, selection.until_ns)
            ).fetchone()[0]
            for edge in ("min", "max")
        ]
    return None if bounds[0] is None else (bounds[0], bounds[1])


def newest(segment: Segment, kind: str, streams: tuple[str, ...], limit: int) -> list[Embedding | Event]:
    """Return the last messages of some streams (none: all), newest first. Raises `StoreError`."""
    where, names = _of_streams(streams)
    return list(_read(segment, kind, f"{where} ORDER BY id DESC LIMIT ?", (*names, limit)))


def blocks(segment: Segment, space: str, selection: Selection, size: int = BLOCK_ROWS) -> Iterator[Block]:
    """Yield the vectors of a space in blocks; those of one block have equal shapes. Raises `StoreError`."""
    forms = segment.forms()
    where, names = _of_streams(selection.streams)
    with explained(segment.path):
        owners = dict(segment.db.execute("SELECT id, stream FROM sources").fetchall())
        for shape in sorted({form[-2:] for form in forms.values() if form[0] == space}):
            chosen = {number: form for number, form in forms.items() if form[0] == space and form[-2:] == shape}
            # Without `+`, SQLite would take the index on `source`, and read the rows in another order.
            cursor = segment.db.execute(
                "SELECT id, source, form, start_ns, stretch_ns, exponent, vector FROM embeddings"
                f" WHERE start_ns >= ? AND start_ns < ? AND +form IN ({marks(chosen)}) AND {where} ORDER BY id",
                (selection.since_ns, selection.until_ns, *chosen, *names),
            )
            lengths = {number: rows.nominal_ns(form[9], form[8]) for number, form in chosen.items()}
            while found := cursor.fetchmany(size):
                yield _block(segment.number, found, lengths, owners)


def holes(segment: Segment) -> list[Hole]:
    """Return what this file says is missing. Raises `StoreError`."""
    sources = segment.sources()
    with explained(segment.path):
        found = segment.db.execute('SELECT source, kind, first, "end", reason, noted_ns FROM holes ORDER BY id').fetchall()
    return [Hole(sources[source], *rest) for source, *rest in found]


def cursor_of(segment: Segment) -> dict[bytes, dict[tuple[str, str], int]]:
    """Return the `seq` of the next message by boot and (kind, stream), as of this file. Raises `StoreError`."""
    found: dict[bytes, dict[tuple[str, str], int]] = {}
    with explained(segment.path):
        rows = segment.db.execute(
            "SELECT boot, name, embeddings, events FROM sources JOIN streams ON streams.id = stream ORDER BY sources.id"
        ).fetchall()
    for boot, name, embeddings, events in rows:
        found.setdefault(boot, {}).update({("embedding", name): embeddings, ("event", name): events})
    return found


def when_ns(message: Embedding | Event) -> int:
    """Return the time by which messages are sorted."""
    return message.time.start_ns if isinstance(message, Embedding) else message.time_ns


def _messages_of(segment: Segment, kind: str, selection: Selection) -> Iterator[Embedding | Event]:
    time = TIMES[kind]
    where, names = _of_streams(selection.streams)
    where = f"{time} >= ? AND {time} < ? AND {where} ORDER BY {time}, id"
    return _read(segment, kind, where, (selection.since_ns, selection.until_ns, *names))


def _read(segment: Segment, kind: str, where: str, values: Sequence[Any]) -> Iterator[Embedding | Event]:
    columns, table = (EMBEDDING_COLUMNS, "embeddings") if kind == "embedding" else (EVENT_COLUMNS, "events")
    sources = segment.sources()
    forms = segment.forms()
    with explained(segment.path):
        for row in segment.db.execute(f"SELECT {columns} FROM {table} WHERE {where}", tuple(values)):
            if row[0] not in sources or (kind == "embedding" and row[2] not in forms):  # written since these were read
                sources, forms = segment.sources(), segment.forms()
            source = sources[row[0]]
            yield rows.embedding(row, forms[row[2]], source) if kind == "embedding" else rows.event(row, source)


def _of_streams(streams: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return a condition on `source`, and its values. `+` keeps SQLite from the index, which would change the order."""
    if not streams:
        return "TRUE", ()
    inner = f"SELECT sources.id FROM sources JOIN streams ON streams.id = stream WHERE name IN ({marks(streams)})"
    return f"+source IN ({inner})", streams


def _block(number: int, found: list[Any], lengths: dict[int, int], owners: dict[int, int]) -> Block:
    ids, sources, forms, start_ns, stretch_ns, exponents, vectors = zip(*found, strict=True)
    starts = np.array(start_ns, np.int64)
    return Block(
        ids=np.array(ids, np.int64) + (number << ID_SHIFT),
        start_ns=starts,
        end_ns=starts + np.array(stretch_ns, np.int64) + np.array([lengths[form] for form in forms], np.int64),
        streams=np.array([owners[source] for source in sources], np.int32),
        vectors=unpack_rows(np.array(exponents, np.int32), list(vectors)),
    )


def marks(values: Sized) -> str:
    """Return the placeholders of a statement for so many values."""
    return ", ".join("?" * len(values))
