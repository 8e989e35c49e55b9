"""Messages into the tables of the file that is being written, within a transaction of the caller.

What has come and what is expected next is kept in memory too; after a transaction that failed, `reload` reads it again.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from mertd.errors import StoreError
from mertd.memory.holes import HoleReason
from mertd.memory.rows import (
    EMBEDDING_COLUMNS,
    EVENT_COLUMNS,
    FORM_COLUMNS,
    INTEGERS,
    embedding_rows,
    event_row,
    form_row,
)
from mertd.memory.segment import KIND_TABLES, Segment
from mertd.stream.client.sequence import COUNTERS
from mertd.vocabulary import EventName
from mertd.wire import Embedding, Event, Status

CARRIED_RUNS = 10_000
"""Streams and runs of daemons whose cursors go from a full file to the next one; of older runs nothing can come any more."""

MAX_ADDED = 1_024
"""Messages of a kind that are kept until they are written together: 3 MB of vectors."""

PLACE_FACT = "place "
"""How the names of facts begin that say where a client is in what its messages come from."""

UNSTORABLE = (StoreError, OverflowError, UnicodeError, sqlite3.DataError, sqlite3.IntegrityError)
"""What is raised for a message whose values SQLite refuses. It must not keep those that come with it from being stored."""

log = logging.getLogger(__name__)


class Writer:
    """Adds messages to one file.

    Attributes:
        stored, duplicates, missing: messages since `begin`.
    """

    def __init__(self, segment: Segment) -> None:
        self.stored = 0
        self.duplicates = 0
        self.missing = 0
        self._db = segment.db
        self._reason = HoleReason.MISSED
        self.reload()

    def reload(self) -> None:
        """Read what is expected next from the file, and drop what was added."""
        self._added: dict[str, list[tuple[Embedding | Event, int]]] = {kind: [] for kind in KIND_TABLES}  # with their sources
        self._moved: set[tuple[int, str]] = set()  # sources and kinds of which another message is expected next
        self._sources: dict[tuple[bytes, str, str], int] = {}
        self._next: dict[tuple[int, str], int] = {}
        rows = self._db.execute(
            "SELECT sources.id, boot, daemon, name, embeddings, events FROM sources JOIN streams ON streams.id = sources.stream"
        )
        for number, boot, daemon, stream, embeddings, events in rows:
            self._sources[boot, daemon, stream] = number
            self._next[number, "embedding"] = embeddings
            self._next[number, "event"] = events
        self._read_forms()

    def _read_forms(self) -> None:
        self._forms: dict[tuple[Any, ...], int] = {
            tuple(form): number for number, *form in self._db.execute(f"SELECT id, {FORM_COLUMNS} FROM forms")
        }
        self._latest_form: tuple[object, int] = (None, 0)  # what makes up a form, and its number

    def cursor(self) -> dict[bytes, dict[tuple[str, str], int]]:
        """Return the `seq` of the next message for each boot, kind and stream."""
        found: dict[bytes, dict[tuple[str, str], int]] = {}
        for (boot, _, stream), number in self._sources.items():
            for kind in KIND_TABLES:
                found.setdefault(boot, {})[kind, stream] = self._next[number, kind]
        return found

    def begin(self, reason: HoleReason) -> None:
        """Count from zero. `reason`: why messages are missing that did not come."""
        self.stored = self.duplicates = self.missing = 0
        self._reason = reason

    def add(self, message: Embedding | Event) -> None:
        """Store a message with the next `finish`, and what is missing before it. Raises `sqlite3.Error`."""
        source = self._source(message.boot, message.daemon, message.stream)
        expected = self._next[source, message.kind]
        if message.seq + 1 not in INTEGERS:
            log.error("%s/%s: message %d cannot be stored", message.kind, message.stream, message.seq)
            return
        if message.seq > expected:
            self.missing += message.seq - expected
            self._hole(source, message.kind, expected, message.seq, self._reason)
        elif message.seq < expected and not self._fill(source, message.kind, message.seq):
            self.duplicates += 1
            return
        self._added[message.kind].append((message, source))
        self._expect(source, message.kind, max(expected, message.seq + 1))
        if len(self._added[message.kind]) >= MAX_ADDED:
            self.finish()

    def finish(self) -> None:
        """Write what was added. Raises `sqlite3.Error`."""
        self._insert_added()
        for source, kind in self._moved:
            self._db.execute(f"UPDATE sources SET {KIND_TABLES[kind]} = ? WHERE id = ?", (self._next[source, kind], source))
        self._moved.clear()

    def lacks(self, status: Status) -> bool:
        """Return whether a daemon had sent messages before its status that are not here."""
        return any(self._expected(status, stream, kind) < end for stream, kind, end in _sent(status))

    def note_sent(self, status: Status) -> None:
        """Store that they are missing. Raises `sqlite3.Error`."""
        for stream, kind, end in _sent(status):
            if (first := self._expected(status, stream, kind)) < end:
                source = self._source(status.boot, status.daemon, stream)
                self.missing += end - first
                self._hole(source, kind, first, end, self._reason)
                self._expect(source, kind, end)

    def _expected(self, status: Status, stream: str, kind: str) -> int:
        source = self._sources.get((status.boot, status.daemon, stream))
        return 0 if source is None else self._next[source, kind]

    # Within

    def _insert_added(self) -> None:
        for kind, added in self._added.items():
            if added:
                self._insert_or_leave_out(kind, added)
                added.clear()

    def _insert_or_leave_out(self, kind: str, added: list[tuple[Embedding | Event, int]]) -> None:
        """Store messages of a kind, all at once or, if one of them cannot be stored, one by one without it."""
        self._db.execute("SAVEPOINT messages")
        try:
            self._insert(kind, added)
            self.stored += len(added)
        except UNSTORABLE as error:
            self._db.execute("ROLLBACK TO messages")
            self._read_forms()  # those that were new are gone
            if len(added) > 1:
                for one in added:
                    self._insert_or_leave_out(kind, [one])
            else:
                message, source = added[0]
                log.error("%s/%s: message %d: %s", message.kind, message.stream, message.seq, error)
                self._hole(source, message.kind, message.seq, message.seq + 1, HoleReason.UNSTORABLE)
        self._db.execute("RELEASE messages")

    def _insert(self, kind: str, added: list[tuple[Embedding | Event, int]]) -> None:
        embeddings = [message for message, _ in added if isinstance(message, Embedding)]
        if embeddings:
            owners = [(source, self._form(message)) for message, (_, source) in zip(embeddings, added, strict=True)]
            rows = embedding_rows(embeddings, owners)
        else:
            rows = [event_row(message, source) for message, source in added if isinstance(message, Event)]
        columns = EMBEDDING_COLUMNS if embeddings else EVENT_COLUMNS
        marks = ", ".join("?" * len(rows[0]))
        self._db.executemany(f"INSERT INTO {KIND_TABLES[kind]} ({columns}, checksum) VALUES ({marks})", rows)

    def _expect(self, source: int, kind: str, seq: int) -> None:
        self._next[source, kind] = seq
        self._moved.add((source, kind))

    def _source(self, boot: bytes, daemon: str, stream: str) -> int:
        key = (boot, daemon, stream)
        if key not in self._sources:
            db = self._db
            db.execute("INSERT OR IGNORE INTO streams (daemon, name) VALUES (?, ?)", (daemon, stream))
            (number,) = db.execute("SELECT id FROM streams WHERE daemon = ? AND name = ?", (daemon, stream)).fetchone()
            self._end_run_before(number)
            source = db.execute("INSERT INTO sources (boot, stream) VALUES (?, ?)", (boot, number)).lastrowid
            assert source is not None
            self._sources[key] = source
            self._next[source, "embedding"] = self._next[source, "event"] = 0
        return self._sources[key]

    def _end_run_before(self, stream: int) -> None:
        """Note that a stream's run before this one ended without saying so, if that is so."""
        self.finish()
        before = self._db.execute(
            "SELECT id, embeddings FROM sources WHERE stream = ? ORDER BY id DESC LIMIT 1", (stream,)
        ).fetchone()
        if before is None:
            return
        last = self._db.execute("SELECT event FROM events WHERE source = ? ORDER BY seq DESC LIMIT 1", before[:1]).fetchone()
        if last != (EventName.STOPPING.value,):
            self._hole(before[0], "", before[1], None, HoleReason.RUN_OVER)

    def _form(self, message: Embedding) -> int:
        key = (message.model, message.window.rate, message.window.end - message.window.start, message.vector.shape)
        if key != self._latest_form[0]:
            self._latest_form = (key, self._number_of_form(form_row(message)))
        return self._latest_form[1]

    def _number_of_form(self, form: tuple[Any, ...]) -> int:
        if form not in self._forms:
            marks = ", ".join("?" * len(form))
            number = self._db.execute(f"INSERT INTO forms ({FORM_COLUMNS}) VALUES ({marks})", form).lastrowid
            assert number is not None
            self._forms[form] = number
        return self._forms[form]

    def _hole(self, source: int, kind: str, first: int, end: int | None, reason: str, noted_ns: int | None = None) -> None:
        self._db.execute(
            'INSERT INTO holes (source, kind, first, "end", reason, noted_ns) VALUES (?, ?, ?, ?, ?, ?)',
            (source, kind, first, end, reason, time.time_ns() if noted_ns is None else noted_ns),
        )

    def _fill(self, source: int, kind: str, seq: int) -> bool:
        """Take a message out of the hole of this file that it lies in. Returns whether there is one."""
        found = self._db.execute(
            'SELECT id, first, "end", reason, noted_ns FROM holes WHERE source = ? AND kind = ? AND first <= ? AND "end" > ?'
            " AND reason != ?",
            (source, kind, seq, seq, HoleReason.FORGOTTEN.value),
        ).fetchone()
        if found is None:
            return False
        number, first, end, reason, noted_ns = found
        self._db.execute("DELETE FROM holes WHERE id = ?", (number,))
        if first < seq:
            self._hole(source, kind, first, seq, reason, noted_ns)
        if seq + 1 < end:
            self._hole(source, kind, seq + 1, end, reason, noted_ns)
        return True


def _sent(status: Status) -> Iterator[tuple[str, str, int]]:
    """Yield stream, kind and the number of the next message of all that a daemon sends."""
    for stream, counters in status.streams.items():
        for kind, counter in COUNTERS.items():
            end = counters.get(counter) if isinstance(counters, dict) else None
            if isinstance(end, int) and end in INTEGERS:
                yield stream, kind, end


def carry(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy streams, cursors and places into a file that has just been created."""
    for row in old.execute("SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?", (len(PLACE_FACT), PLACE_FACT)):
        new.execute("INSERT INTO facts VALUES (?, ?)", row)
    for row in old.execute("SELECT id, daemon, name FROM streams"):
        new.execute("INSERT INTO streams (id, daemon, name) VALUES (?, ?, ?)", row)
    newest = "SELECT id, boot, stream, embeddings, events FROM sources ORDER BY id DESC LIMIT ?"
    for row in old.execute(newest, (CARRIED_RUNS,)):
        new.execute("INSERT INTO sources (id, boot, stream, embeddings, events) VALUES (?, ?, ?, ?, ?)", row)
