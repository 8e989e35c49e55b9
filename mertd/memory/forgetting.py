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
from mertd.memory.holes import HoleReason
from mertd.memory.memory_folder import existing, open_if_there, segments, upkeep
from mertd.memory.queries import FOREVER_NS, TIMES
from mertd.memory.segment import KIND_TABLES, Segment, explained, remove, remove_built


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
        for path in segments(folder):
            try:
                deleted += _forget_in(path, scope)
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"{path}: {error}; what was deleted so far stays deleted") from error
    return deleted


def _forget_in(path: Path, scope: Scope) -> int:
    with Segment(path, begin=lambda _: None) as segment:
        with segment.transaction() as db:
            deleted = sum(_delete(db, kind, scope) for kind in KIND_TABLES)
            if deleted:
                segment.set_fact("forgotten", segment.fact("forgotten") + 1)
        if not deleted:
            return 0
        # The log holds old pages until they are written back, which waits for those who read.
        if not segment.closed and not segment.write_back():
            raise StoreError(
                f"{path.name} is being read by another process, so its log still holds what was deleted; end that process, "
                "and give the command again"
            )
    remove_built(path)
    with Segment(path) as segment:
        empty = segment.closed and not any(segment.count(kind) for kind in KIND_TABLES) and _is_first(path)
        if segment.closed and not empty:
            segment.compact()
    if empty:
        remove(path)
    return deleted


def _delete(db: sqlite3.Connection, kind: str, scope: Scope) -> int:
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


def _is_first(path: Path) -> bool:
    return segments(path.parent)[:1] == [path]
