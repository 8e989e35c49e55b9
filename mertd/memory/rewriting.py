"""Full files written anew: when they have become full, when something of them is forgotten, when the format changes.

A full file is never changed in place. Its copy is made beside it, and takes its name when it is whole and on the disk. A reader
goes on with the file that it has opened, and a process that is killed leaves either the one or the other.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from mertd.memory import tables
from mertd.memory.segment import Segment
from mertd.memory.segment_files import PARTIAL_SUFFIX, check_room, closed_path, give, size_of, sync, unlink
from mertd.memory.tables import migrate, version

CLOSED_PAGE = 65_536
"""Bytes of a page of a full file: rows of 1.6 kB leave a fifth of a small page empty."""


def rewrite(path: Path, change: Callable[[sqlite3.Connection], object] | None = None) -> Path:
    """Replace a file by a copy with large pages, without what was deleted. Return the path of the copy.

    `change`: what is changed in the copy before it takes the file's place. The caller keeps others from replacing files. Raises
    `StoreError`, `sqlite3.Error` or `OSError`; the file is then as before.
    """
    target = closed_path(path)
    partial = target.with_suffix(PARTIAL_SUFFIX)
    changed = target.with_suffix(f".changed{PARTIAL_SUFFIX}")
    unlink(partial)
    unlink(changed)
    check_room(path.parent, size_of(path) * (1 if change is None else 2))
    try:
        with Segment(path, of_any_version=True) as segment:
            _pack(segment.db, partial if change is None else changed)
        if change is not None:
            _change(changed, change, partial)
        shutil.copymode(path, partial)
        give(partial, path)
        sync(partial)
        partial.replace(target)
        sync(target.parent)
    finally:
        unlink(partial)
        unlink(changed)
    if target != path:
        unlink(path)
    return target


def bring_up_to_date(path: Path) -> None:
    """Write a full file anew if it is not yet compact, or of an older version. Raises as `rewrite`."""
    with Segment(path, of_any_version=True) as segment:
        found = version(segment.db, path.name)
        if segment.closed and found == tables.FORMAT:
            return
    rewrite(path, None if found == tables.FORMAT else lambda db: migrate(db, path.name))


def _pack(db: sqlite3.Connection, into: Path) -> None:
    """Copy a file into another one, without what was deleted; both are where the memory is, not with temporary files."""
    db.execute(f"PRAGMA page_size = {CLOSED_PAGE}")
    db.execute("VACUUM INTO ?", (str(into),))


def _change(path: Path, change: Callable[[sqlite3.Connection], object], into: Path) -> None:
    """Change a file that nobody else knows, and pack it into another one. It is thrown away, so it needs no journal."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        change(db)
        _pack(db, into)
