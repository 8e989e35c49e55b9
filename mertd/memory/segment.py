"""One file of the memory, open for reading or for writing.

The file that is written to is in SQLite's WAL mode with synchronous=FULL: what a commit has returned from survives the loss of
power. A file that is full is written anew with large pages, under another name, and never changes again: what must go later
goes with another copy (mertd/memory/rewriting.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from mertd.errors import StoreError
from mertd.memory import tables
from mertd.memory.private_copy import needs_copy, opened_copy
from mertd.memory.rows import FORM_COLUMNS, Source
from mertd.memory.segment_files import (
    CLOSED_SUFFIX,
    LOG_SUFFIXES,
    PARTIAL_SUFFIX,
    check_room,
    identity,
    number_of,
    remove_built,
    size_of,
    sync,
    unlink,
)
from mertd.memory.tables import create, migrate, version

MIN_SQLITE = (3, 27, 0)
"""The first version with `VACUUM INTO`."""

BUSY_S = 10.0
"""Seconds to wait for another process that has locked a file, as `mertd memory forget` does for moments."""

MAX_LOG = 16 << 20
"""Bytes to which the log is cut when nobody reads the file any more who had kept it from being written back."""

OPEN_PAGE = 4_096
"""Bytes of a page of a file that is written to: what a commit writes at least, twice."""

KIND_TABLES = {"embedding": "embeddings", "event": "events"}
"""Tables by kind of message."""


class NoTablesError(StoreError):
    """A file has just been made, or the process that made it was killed then: nothing is in it."""


class FileGoneError(StoreError):
    """A file, or its log, was deleted or replaced while it was open for writing: what is written to it would be lost."""


class Segment:
    """A connection to one file. `number`: its place among the files, and part of its name."""

    def __init__(
        self, path: Path, begin: Callable[[sqlite3.Connection], None] | None = None, of_any_version: bool = False
    ) -> None:
        """Open a file. `begin`: makes it writable, and fills its tables when they have just been created.

        Only a file that is not full may be written to. It is brought up to date; `of_any_version` opens what is not up to date
        for reading. Raises `StoreError` if it cannot be opened, is damaged, is no memory, or is of another version.
        """
        self.path, self.number = path, number_of(path)
        self._writable = begin is not None
        self._identity = identity(path)
        self.db = _opened(path, self._writable)
        try:
            with explained(path):
                if begin is not None:
                    self._prepare(begin)
                    self._identity = identity(path)
                found = version(self.db, path.name)
                if found == 0:
                    raise NoTablesError(f"{path} has no tables yet; another process is making it")
                if found < tables.FORMAT and not of_any_version:
                    raise StoreError(
                        f"{path} is of version {found} of the memory, and this mertd reads version {tables.FORMAT}; "
                        "`mertd run --remember` or `mertd remember` brings it up to date"
                    )
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, begin: Callable[[sqlite3.Connection], None]) -> None:
        db = self.db
        if not self._has_wal():
            raise StoreError(
                f"{self.path} is on a file system without SQLite's write-ahead log; keep the memory on a local disk"
            )
        # FULL: a commit waits for the disk. secure_delete: what is forgotten is overwritten.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute(f"PRAGMA journal_size_limit = {MAX_LOG}")
        if version(db, self.path.name) == 0:
            with self.transaction():
                create(db)
                begin(db)
        migrate(db, self.path.name)

    def _has_wal(self) -> bool:
        self.db.execute(f"PRAGMA page_size = {OPEN_PAGE}")
        (mode,) = self.db.execute("PRAGMA journal_mode = WAL").fetchone()
        return bool(mode == "wal")

    # What is in it

    @property
    def closed(self) -> bool:
        return self.path.name.endswith(CLOSED_SUFFIX)

    @property
    def bytes(self) -> int:
        """The size of the file and its log."""
        return size_of(self.path)

    @cached_property
    def begun_ns(self) -> int:
        """When the file was begun, in Unix nanoseconds. Raises `StoreError`."""
        return self.fact("begun_ns")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return what a query finds. Raises `StoreError`."""
        with explained(self.path):
            return self.db.execute(statement, values).fetchall()

    def count(self, kind: str) -> int:
        """Return how many messages of a kind are here."""
        return int(self.rows(f"SELECT count(*) FROM {KIND_TABLES[kind]}")[0][0])

    def sources(self) -> dict[int, Source]:
        """Return the streams and runs of daemons by their id in this file."""
        rows = self.rows("SELECT sources.id, boot, daemon, name FROM sources JOIN streams ON streams.id = sources.stream")
        return {number: Source(*rest) for number, *rest in rows}

    def forms(self) -> dict[int, tuple[Any, ...]]:
        """Return the forms of embeddings by their id in this file."""
        return {number: tuple(rest) for number, *rest in self.rows(f"SELECT id, {FORM_COLUMNS} FROM forms")}

    def span_ns(self) -> tuple[int, int] | None:
        """Return the times of the first and the last message, by the start of windows; None if it is empty."""
        (found,) = self.rows(
            "SELECT min(low), max(high) FROM (SELECT min(start_ns) AS low, max(start_ns) AS high FROM embeddings"
            " UNION ALL SELECT min(time_ns), max(time_ns) FROM events)"
        )
        return (found[0], found[1]) if found[0] is not None else None

    def fact(self, name: str, default: int = 0) -> int:
        """Return a number that is kept about the file. Raises `FileGoneError` for a full one whose place another has taken."""
        if self.closed:
            self._check_current()
        found = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return int(found[0][0]) if found else default

    # Transactions

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done within, all or nothing. Raises `sqlite3.Error`, or `StoreError` if the disk is full."""
        check_room(self.path.parent)
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back itself
                self.db.execute("ROLLBACK")
            raise

    def _check_current(self) -> None:
        """Raise `FileGoneError` if this full file was replaced or deleted; what was built from it since then goes with it."""
        if identity(self.path)[:1] != self._identity[:1]:
            remove_built(self.path)
            raise FileGoneError(f"{self.path} was replaced, because something of it was forgotten, or deleted; try again")

    def check_in_place(self) -> None:
        """Raise `FileGoneError` if the file or its log is no longer the one that was opened; its log is then written back."""
        if identity(self.path) != self._identity:
            with contextlib.suppress(sqlite3.Error):
                self.write_back()
            raise FileGoneError(f"{self.path} or its log was deleted or replaced while it was written to")

    def write_back(self, wait_s: float = 0.0) -> bool:
        """Write the whole log into the file and empty it. Returns False if it cannot be emptied, because it is being read.

        `wait_s`: how long to wait for those who read. Raises `sqlite3.Error`.
        """
        self.db.execute(f"PRAGMA busy_timeout = {round(wait_s * 1e3)}")
        try:
            (busy, *_) = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self.db.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1e3)}")
        return not busy

    def close(self) -> None:
        """Close the file. Its log stays: who may only read could not make one, and without one cannot read the file."""
        if not self._writable:
            self.db.close()
            return
        # SQLite deletes the log with the last connection, but not with one that is read-only.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(self.path, writable=False)):
            self.db.close()
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def begin_file(path: Path, begin: Callable[[sqlite3.Connection], None]) -> Segment:
    """Make a file and open it for writing. `begin`: fills its tables.

    It appears under its name when its tables are on the disk and SQLite's log is on: no reader sees it before. Raises
    `StoreError` or `OSError`.
    """
    partial = path.with_suffix(PARTIAL_SUFFIX)
    unlink(partial)
    try:
        with Segment(partial, begin) as made, explained(partial):
            made.write_back()
        sync(partial)
        for extra in LOG_SUFFIXES:
            partial.with_name(partial.name + extra).replace(path.with_name(path.name + extra))
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            unlink(partial)
        raise
    return Segment(path, begin)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _opened(path: Path, writable: bool) -> sqlite3.Connection:
    """Open a file, or a copy of it where only its log, which cannot be made, is missing. Raises `StoreError`."""
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        needed = ".".join(map(str, MIN_SQLITE))
        raise StoreError(f"Python's SQLite {sqlite3.sqlite_version} is too old for the memory, which needs {needed} or newer")
    try:
        return _connect(path, writable)
    except sqlite3.Error as error:
        if not writable and needs_copy(path):
            return opened_copy(path)
        raise StoreError(f"{path} cannot be opened: {error}") from error


def _connect(path: Path, writable: bool) -> sqlite3.Connection:
    mode = "rwc" if writable else "ro"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, timeout=BUSY_S, isolation_level=None, uri=True, check_same_thread=False)
    try:
        connection.execute("PRAGMA mmap_size = 0")  # a file that others make shorter would end this process
        connection.execute("PRAGMA schema_version")  # reads the file, and so notices what is none
    except BaseException:
        connection.close()
        raise
    return connection
