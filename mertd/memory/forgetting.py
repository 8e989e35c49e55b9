"""Deleting what was asked to be forgotten, so that nothing of it is left in the files, and the holes say so.

A process that writes to the memory may go on meanwhile: files are locked for moments only.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mertd.errors import StoreError
from mertd.memory.commit_lock import CommitLock
from mertd.memory.holes import HoleReason
from mertd.memory.memory_folder import existing, open_if_there, segments, tidy, upkeep
from mertd.memory.queries import FOREVER_NS, TIMES
from mertd.memory.rewriting import rewrite
from mertd.memory.segment import KIND_TABLES, Segment, explained
from mertd.memory.segment_files import CLOSED_SUFFIX, remove, remove_built

TIMES_FORGOTTEN = "forgotten"
"""Fact of a file: how often something of it was forgotten. What was built from it at another number must be built anew."""

UNFINISHED = "forgetting"
"""Fact of a file: 1 while its log may still hold what was deleted, also after a process was killed then."""

READERS_S = 10.0
"""Seconds to wait for those who read the file that is being written."""


@dataclass(frozen=True)
class Scope:
    """What to forget: messages before a time, of some streams (none: all). Windows count by their end."""

    before_ns: int = FOREVER_NS
    streams: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """What would be forgotten. `total`: how many messages there are in all."""

    counts: dict[str, int]
    first_ns: int | None
    last_ns: int | None
    total: int


def preview(folder: Path, scope: Scope) -> Preview:
    """Return what `forget` would delete. Raises `StoreError`."""
    counts = dict.fromkeys(KIND_TABLES, 0)
    times: list[int] = []
    total = 0
    for path in segments(existing(folder)):
        segment = open_if_there(path)
        if segment is None:
            continue
        with segment, explained(path):
            for kind, table in KIND_TABLES.items():
                where, values = _where(kind, scope)
                column = TIMES[kind]
                found = segment.db.execute(
                    f"SELECT count(*), min({column}), max({column}) FROM {table} WHERE {where}", values
                ).fetchone()
                counts[kind] += found[0]
                times += [t for t in found[1:] if t is not None]
                total += segment.count(kind)
    return Preview(counts, min(times, default=None), max(times, default=None), total)


def forget(folder: Path, scope: Scope) -> int:
    """Delete messages, and what was built from their files. Return how many. Raises `StoreError`."""
    deleted = 0
    with upkeep(existing(folder), waits=True):
        tidy(folder)
        for path in segments(folder):
            try:
                deleted += _forget_in(path, scope)
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"{path}: {error}; what was deleted so far stays deleted") from error
    return deleted


def _forget_in(path: Path, scope: Scope) -> int:
    with Segment(path) as segment:
        wanted = sum(_count(segment.db, kind, scope) for kind in KIND_TABLES)
        unfinished = segment.fact(UNFINISHED)
    if not wanted and not unfinished:
        return 0
    remove_built(path)
    forget_in = _forget_in_full if path.name.endswith(CLOSED_SUFFIX) else _forget_in_open
    deleted = forget_in(path, scope)
    remove_built(path)  # of what was built from the old file meanwhile
    return deleted


def _forget_in_full(path: Path, scope: Scope) -> int:
    """Put a copy in the place of a file; or nothing, if it is the oldest and nothing stays."""
    deleted = kept = 0

    def change(db: sqlite3.Connection) -> None:
        nonlocal deleted, kept
        deleted = _delete(db, scope)
        _set_fact(db, UNFINISHED, 0)
        kept = sum(_count(db, kind, Scope()) for kind in KIND_TABLES)

    rewrite(path, change)
    if not kept and segments(path.parent)[:1] == [path]:
        remove(path)
    return deleted


def _forget_in_open(path: Path, scope: Scope) -> int:
    """Delete in the file that is being written, between two transactions of the process that writes."""
    commits = CommitLock(path.parent)
    try:
        with commits.held(), Segment(path, begin=lambda _: None) as segment:
            with segment.transaction() as db:
                deleted = _delete(db, scope)
                _set_fact(db, UNFINISHED, 1)
            # The log holds old pages until they are written back, which waits for those who read.
            if not segment.write_back(wait_s=READERS_S):
                raise StoreError(
                    f"{path.name} is being read by another process, so its log still holds what was deleted; end that process, "
                    "and give the command again"
                )
            with segment.transaction() as db:
                _set_fact(db, UNFINISHED, 0)
    finally:
        commits.close()
    return deleted


def _delete(db: sqlite3.Connection, scope: Scope) -> int:
    deleted = sum(_delete_kind(db, kind, scope) for kind in KIND_TABLES)
    found = db.execute("SELECT value FROM facts WHERE name = ?", (TIMES_FORGOTTEN,)).fetchone()
    _set_fact(db, TIMES_FORGOTTEN, (found[0] if found else 0) + 1)
    return deleted


def _set_fact(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))


def _count(db: sqlite3.Connection, kind: str, scope: Scope) -> int:
    where, values = _where(kind, scope)
    (found,) = db.execute(f"SELECT count(*) FROM {KIND_TABLES[kind]} WHERE {where}", values).fetchone()
    return int(found)


def _delete_kind(db: sqlite3.Connection, kind: str, scope: Scope) -> int:
    where, values = _where(kind, scope)
    table = KIND_TABLES[kind]
    runs = db.execute(
        "SELECT source, min(seq), max(seq) FROM"
        f" (SELECT source, seq, seq - row_number() OVER (PARTITION BY source ORDER BY seq) AS run FROM {table} WHERE {where})"
        " GROUP BY source, run",
        values,
    ).fetchall()
    now_ns = time.time_ns()
    for source, first, last in runs:
        db.execute(
            'INSERT INTO holes (source, kind, first, "end", reason, noted_ns) VALUES (?, ?, ?, ?, ?, ?)',
            (source, kind, first, last + 1, HoleReason.FORGOTTEN.value, now_ns),
        )
    return db.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount


def _where(kind: str, scope: Scope) -> tuple[str, tuple[Any, ...]]:
    if kind == "embedding":
        # Sound of a window that reaches beyond the time is not all from before it.
        nominal = "(SELECT length * 1000000000 / max(rate, 1) FROM forms WHERE forms.id = form)"
        where = f"start_ns < ? AND start_ns + stretch_ns + {nominal} <= ?"
        values: tuple[Any, ...] = (scope.before_ns, scope.before_ns)
    else:
        where, values = "time_ns < ?", (scope.before_ns,)
    if scope.streams:
        marks = ", ".join("?" * len(scope.streams))
        where += f" AND source IN (SELECT sources.id FROM sources JOIN streams ON streams.id = stream WHERE name IN ({marks}))"
    return where, (*values, *scope.streams)
