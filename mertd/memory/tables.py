"""The tables of one file of the memory, their version, and how files of older versions are brought up to date.

Rules of this file: it opens nothing. A released version's tables never change: whatever is new is a migration from the version
before, which runs in one transaction, so a file is of one version or of the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mertd.errors import StoreError

APPLICATION_ID = 0x6D657274
"""`mert` in ASCII: the mark by which SQLite and `file` know the files."""

FORMAT = 1
"""Version of the tables."""

CREATE = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- A stream of a daemon, the same over all its runs.
CREATE TABLE streams (id INTEGER PRIMARY KEY, daemon TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (daemon, name));
-- A stream in one run of its daemon, and the number of the next message of each kind.
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, boot BLOB NOT NULL, stream INTEGER NOT NULL REFERENCES streams (id),
    embeddings INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0, UNIQUE (boot, stream));
-- What changes rarely from one embedding to the next. `layers`: numbers with commas. `length`: samples in a window.
CREATE TABLE forms (
    id INTEGER PRIMARY KEY, space TEXT NOT NULL, name TEXT NOT NULL, weights TEXT NOT NULL, trained INTEGER NOT NULL,
    layers TEXT NOT NULL, pooling TEXT NOT NULL, backend TEXT NOT NULL, "precision" TEXT NOT NULL,
    rate INTEGER NOT NULL, length INTEGER NOT NULL, rows INTEGER NOT NULL, size INTEGER NOT NULL,
    UNIQUE (space, name, weights, trained, layers, pooling, backend, "precision", rate, length, rows, size));
-- `stretch_ns`: how much longer the window lasted than `length` samples at `rate`, which is the source's drift. `vector`:
-- float16, to be multiplied by two to the power of `exponent`. `checksum`: CRC-32 of all the others.
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, seq INTEGER NOT NULL, form INTEGER NOT NULL, epoch INTEGER NOT NULL,
    first INTEGER NOT NULL, start_ns INTEGER NOT NULL, stretch_ns INTEGER NOT NULL, error_ns INTEGER NOT NULL,
    drift_ppm REAL NOT NULL, rms_dbfs REAL NOT NULL, peak_dbfs REAL NOT NULL, clipped INTEGER NOT NULL,
    missing INTEGER NOT NULL, zeros INTEGER NOT NULL, wait_ns INTEGER NOT NULL, embed_ns INTEGER NOT NULL,
    total_ns INTEGER NOT NULL, skipped INTEGER NOT NULL, exponent INTEGER NOT NULL, checksum INTEGER NOT NULL,
    vector BLOB NOT NULL, UNIQUE (source, seq));
CREATE INDEX embeddings_by_time ON embeddings (start_ns);
-- `detail`: msgpack, as on the wire.
CREATE TABLE events (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, event TEXT NOT NULL,
    first INTEGER NOT NULL, time_ns INTEGER NOT NULL, checksum INTEGER NOT NULL, detail BLOB NOT NULL, UNIQUE (source, seq));
CREATE INDEX events_by_time ON events (time_ns);
-- Messages with first <= seq < "end" that are not here; "end" is NULL where nobody knows how many there were.
-- `kind`: embedding or event, or empty for both. `noted_ns`: when that was known.
CREATE TABLE holes (
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, kind TEXT NOT NULL, first INTEGER NOT NULL, "end" INTEGER,
    reason TEXT NOT NULL, noted_ns INTEGER NOT NULL);
"""

MIGRATIONS: Mapping[int, str] = {}
"""By version, the statements that make a file of that version one of the next, each on lines of its own."""


def create(connection: sqlite3.Connection) -> None:
    """Create the tables, within the caller's transaction."""
    _run(connection, CREATE)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def version(connection: sqlite3.Connection, name: str) -> int:
    """Return the version of a file; 0 if it has no tables yet. Raises `StoreError` for what is no memory, or is newer."""
    with _snapshot(connection):
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not found:
        return 0
    if mark != APPLICATION_ID:
        raise StoreError(f"{name} is an SQLite file, but not one of mertd's; move it out of the directory of the memory")
    if found > FORMAT:
        raise StoreError(
            f"{name} is of version {found} of the memory, and this mertd knows versions up to {FORMAT}; update mertd"
        )
    return int(found)


def migrate(
    connection: sqlite3.Connection, name: str, migrations: Mapping[int, str] = MIGRATIONS, newest: int = FORMAT
) -> None:
    """Bring a file up to date, one version at a time, each in a transaction."""
    found = version(connection, name)
    while 0 < found < newest:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if version(connection, name) == found:  # no other process has done it meanwhile
                _run(connection, migrations[found])
                connection.execute(f"PRAGMA user_version = {found + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        found += 1


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of a file, whatever other processes commit meanwhile."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _run(connection: sqlite3.Connection, statements: str) -> None:
    """Execute statements one by one: `executescript` would commit the transaction first."""
    waiting = ""
    for line in statements.splitlines(keepends=True):
        waiting += line
        if sqlite3.complete_statement(waiting):
            connection.execute(waiting)
            waiting = ""
