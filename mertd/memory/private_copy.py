"""A file of the memory that cannot be read where it is: its log is missing, and this user may not make one beside it.

That is so in a copy of a memory that is mounted read-only, or belongs to somebody else, if the log was left out.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from mertd.errors import StoreError

ATTEMPTS = 5
"""How often a file is copied if it changes meanwhile."""

PARTS = ("", "-wal")
"""What is copied: SQLite makes the index of the log itself."""


def needs_copy(path: Path) -> bool:
    """Return whether a file that could not be opened may be one whose log is missing and cannot be made."""
    return os.access(path, os.R_OK) and not os.access(path.parent, os.W_OK)


def opened_copy(path: Path) -> sqlite3.Connection:
    """Copy a file and its log to the directory for temporary files and open that; it is gone when the connection is closed.

    Raises `StoreError`.
    """
    try:
        for _ in range(ATTEMPTS):
            before = _state(path)
            with tempfile.TemporaryDirectory(prefix="mertd-") as folder:
                copy = Path(folder, path.name)
                for part in PARTS:
                    beside = path.with_name(path.name + part)
                    if beside.exists():
                        shutil.copyfile(beside, copy.with_name(copy.name + part))
                if _state(path) == before:
                    return _connect(copy)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    raise StoreError(f"{path} cannot be read: it changes, its log is missing, and its directory may not be written to")


def _connect(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA schema_version").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _state(path: Path) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for part in PARTS:
        try:
            status = path.with_name(path.name + part).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found
