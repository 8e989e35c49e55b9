"""Names of a file of the memory and of what lies beside it, and how all of that is deleted."""

from __future__ import annotations

import contextlib
import os
import re
from functools import lru_cache
from pathlib import Path

from mertd.errors import StoreError

OPEN_SUFFIX = ".sqlite"
CLOSED_SUFFIX = ".closed.sqlite"

LOG_SUFFIXES = ("-wal", "-shm")
"""Endings of SQLite's log of a file, and of the index of that log."""

PARTIAL_SUFFIX = ".partial"
"""Ending of a file that is not whole yet; nothing reads it."""

RESERVE = 16 << 20
"""Bytes that must be free before anything is written."""

BUILT_NAME = re.compile(r"(\.)?(?P<first>\d+)(-(?P<last>\d+))?\..*(?(1)\.partial|\.(similar|centre))")
"""Names of files that were built from a full file, or from several of them, and can be built again."""


def check_room(folder: Path, size: int = 0) -> None:
    """Raise `StoreError` if the disk is nearly full, or would be with so many bytes more.

    SQLite maps the index of its log into memory. Where a file system then has no block for it, the process would be killed by
    SIGBUS: with blocks below 4 kB, and with those that copy on write.
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be reached: {error.strerror}") from error
    needed = RESERVE + size
    if found.f_blocks and found.f_bavail * found.f_frsize < needed:
        raise StoreError(f"{folder}: the disk is full; the memory needs {needed >> 20} MB that are free")


def number_of(path: Path) -> int:
    """Return the number in the name of a file. Raises `StoreError` if there is none."""
    digits = path.name.partition(".")[0]
    if not digits.isdecimal():
        raise StoreError(f"{path} is not named as a file of the memory, such as 000001.sqlite")
    return int(digits)


def open_path(folder: Path, number: int) -> Path:
    """Return the name of a file that is being written."""
    return folder / f"{number:06d}{OPEN_SUFFIX}"


def closed_path(path: Path) -> Path:
    """Return the name of a file once it is full."""
    return path.with_name(f"{number_of(path):06d}{CLOSED_SUFFIX}")


def remove(path: Path) -> None:
    """Delete a file, its log, and what was built from it."""
    unlink(path)
    remove_built(path)


def unlink(path: Path) -> None:
    """Delete a file and its log. The file goes first: without its log it would be an older state of itself."""
    for extra in ("", *LOG_SUFFIXES, "-journal"):
        path.with_name(path.name + extra).unlink(missing_ok=True)


def remove_built(path: Path) -> None:
    """Delete what was built from a file, alone or with others, also what a killed process had begun: it holds vectors too."""
    number = number_of(path)
    for built in path.parent.iterdir():
        found = BUILT_NAME.fullmatch(built.name)
        if found is not None and int(found["first"]) <= number <= int(found["last"] or found["first"]):
            built.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return the bytes of a file and its log; 0 if it is gone."""
    total = 0
    for each in _with_log(path)[:2]:
        with contextlib.suppress(FileNotFoundError):
            total += each.stat().st_size
    return total


def identity(path: Path) -> list[tuple[int, int]]:
    """Return what tells a file and its log, while they are open, from others of the same names; nothing for what is gone."""
    found = []
    for each in _with_log(path):
        with contextlib.suppress(FileNotFoundError):
            status = each.stat()
            found.append((status.st_dev, status.st_ino))
    return found


@lru_cache(maxsize=16)
def _with_log(path: Path) -> tuple[Path, ...]:
    """Return the paths of a file, its log and the index of that, which each commit asks for."""
    return tuple(path.with_name(path.name + extra) for extra in ("", *LOG_SUFFIXES))


def version_of(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from those that take its place later, also when its number in the file system is used again."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def open_lock(path: Path) -> int:
    """Open a lock, and make it if need be, as the directory's owner could. Return the descriptor. Raises `StoreError`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
    give(descriptor, path.parent)
    return descriptor


def give(file: int | Path, like: Path) -> None:
    """Let a file that root has made belong to whom another one belongs."""
    if os.geteuid() == 0:
        owner = like.stat()
        with contextlib.suppress(OSError):  # some file systems know no owners
            os.chown(file, owner.st_uid, owner.st_gid)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
