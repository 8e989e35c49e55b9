"""The directory of a memory: the names of its files, and the locks that keep writers apart.

000001.closed.sqlite   a full file, which does not change
000002.sqlite          the file that is being written, with SQLite's -wal and -shm beside it
000001.*.similar       built from a full file, as is .centre; can be thrown away
000001-000008.*.similar  built from several full files; can be thrown away
000003.damaged         a file that could not be read, set aside
writer.lock            held by the one process that writes what it receives
upkeep.lock            held while files are replaced or deleted
commit.lock            held by a process while it commits to the file that is being written, and writes its log back
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mertd.errors import StoreError
from mertd.memory.segment import NoTablesError, Segment
from mertd.memory.segment_files import (
    CLOSED_SUFFIX,
    LOG_SUFFIXES,
    OPEN_SUFFIX,
    PARTIAL_SUFFIX,
    closed_path,
    number_of,
    open_lock,
    remove,
)

WRITER_LOCK = "writer.lock"
UPKEEP_LOCK = "upkeep.lock"

GROUP_FILES = 8
"""Numbers of files in a group: a million vectors of one layer, whose graph is built in a minute or two."""

DAMAGED_SUFFIX = ".damaged"
"""Ending of a file that was set aside."""


def existing(folder: Path) -> Path:
    """Return a directory that holds a memory, if only a damaged file that was set aside. Raises `StoreError` if it does not."""
    if not segments(folder) and not list(folder.glob(f"[0-9]*{DAMAGED_SUFFIX}")):
        raise StoreError(
            f"no memory in {folder}; `mertd run --remember` or `mertd remember` makes one, and --memory DIR names another place"
        )
    return folder


def make(folder: Path) -> None:
    """Create the directory if need be, for this user alone. Raises `StoreError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the directory of the memory, {folder}, cannot be made: {error.strerror}") from error


def segments(folder: Path) -> list[Path]:
    """Return the files of the memory, oldest first; of a file that is there in both forms, the full one."""
    found = _listed(folder)
    while (again := _listed(folder)) != found:  # a file took another name while the directory was read
        found = again
    return found


def _listed(folder: Path) -> list[Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.glob(f"[0-9]*{OPEN_SUFFIX}")):
        if path.name.partition(".")[0].isdecimal() and (path.name.endswith(CLOSED_SUFFIX) or number_of(path) not in found):
            found[number_of(path)] = path
    return [found[number] for number in sorted(found)]


def complete_groups(full: Sequence[int], last: int) -> dict[int, list[int]]:
    """Return the numbers of full files by their group, for groups of more than one. `last`: the highest number of all files."""
    found: dict[int, list[int]] = {}
    for number in full:
        group = (number - 1) // GROUP_FILES
        if last > (group + 1) * GROUP_FILES:
            found.setdefault(group, []).append(number)
    return {group: numbers for group, numbers in found.items() if len(numbers) > 1}


def next_number(folder: Path) -> int:
    """Return a number that no file has, not even one that was set aside."""
    numbers = [int(path.name.partition(".")[0]) for path in folder.glob("[0-9]*.*") if path.name.partition(".")[0].isdecimal()]
    return max(numbers, default=0) + 1


def tidy(folder: Path) -> None:
    """Remove what a killed process left half done: unfinished files, files with a whole copy, logs without file."""
    for partial in folder.glob(f"[0-9]*{PARTIAL_SUFFIX}*"):
        partial.unlink(missing_ok=True)
    for log in folder.glob(f"[0-9]*{OPEN_SUFFIX}-*"):
        if not log.with_name(log.name.rpartition("-")[0]).exists():
            log.unlink(missing_ok=True)
    kept = set(segments(folder))
    for path in folder.glob(f"[0-9]*{OPEN_SUFFIX}"):
        if path not in kept:
            remove(path)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is neither read nor lost. Return its new path."""
    target = path.with_name(path.name.partition(".")[0] + DAMAGED_SUFFIX)
    for extra in LOG_SUFFIXES:
        beside = path.with_name(path.name + extra)
        if beside.exists():
            beside.replace(target.with_name(target.name + extra))
    path.replace(target)
    return target


def open_if_there(path: Path) -> Segment | None:
    """Open a file for reading that may meanwhile have been renamed, because it is full, or deleted. Raises `StoreError`."""
    for candidate in (path, closed_path(path)):
        try:
            found = Segment(candidate)
        except NoTablesError:
            return None
        except StoreError:
            if candidate.exists():
                raise
            continue
        if candidate.exists():  # so its log, which is deleted after it, is there too
            return found
        found.close()
    return None


def opened(folder: Path, first: int = -1, newest_first: bool = False) -> Iterator[Segment]:
    """Yield the files with a number of at least `first`, each open until the next one. Raises `StoreError`."""
    for path in segments(folder)[:: -1 if newest_first else 1]:
        if number_of(path) >= first and (segment := open_if_there(path)) is not None:
            with segment:
                yield segment


class FolderLock:
    """A lock on the directory, which a process that dies gives back."""

    def __init__(self, folder: Path, name: str, waits: bool = False) -> None:
        """`waits`: for as long as another process has it. Raises `StoreError` if it is taken."""
        path = folder / name
        self._descriptor = open_lock(path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            os.ftruncate(self._descriptor, 0)
            with contextlib.suppress(OSError):  # a full disk; the number only helps to explain
                os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(f"{path} cannot be locked: {error.strerror}; keep the memory on a local disk") from error
            by = f"process {holder}" if holder.isdecimal() else "another process"
            raise StoreError(
                f"{folder} is in use: {by} writes to this memory; stop it, or name another place with --memory DIR"
            ) from error

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a process that was forked meanwhile has the descriptor, too
        os.close(self._descriptor)


@contextmanager
def upkeep(folder: Path, waits: bool) -> Iterator[bool]:
    """Keep others from replacing and deleting files. Yields whether that is so: it may not be, unless this `waits`."""
    try:
        lock = FolderLock(folder, UPKEEP_LOCK, waits)
    except StoreError:
        if waits:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
