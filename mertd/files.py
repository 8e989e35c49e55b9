"""Read a file that comes from outside, and replace a file in one step.

Rules of this file: opening never blocks and never starts a device; no more than a stated number of bytes is read; a new file is
created exclusively, under an unpredictable name, and never through a link.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from mertd.errors import MertdError

MAX_TEXT_BYTES = 1 << 20
"""Largest configuration file, key file or key list, in bytes: room for 10,000 clients."""

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a FIFO waits for its writer."""

CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

ABANDONED_S = 60.0
"""Seconds without a write after which an unlocked temporary file counts as left behind by a killed process."""

MAX_LINKS = 40
"""Most links from one to the next that are followed."""

KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
"""Names of the kinds of files that hold no content of their own, by their type bits."""


class FileError(MertdError):
    """A file is not a regular file, or is too large."""


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading. The null device counts as an empty file.

    Raises `OSError` if it cannot be opened, `FileError` if it is not a regular file.
    """
    descriptor = os.open(path, READ_FLAGS)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode) and not _is_null_device(found):
            kind = KINDS.get(stat.S_IFMT(found.st_mode), "not a regular file")
            raise FileError(f"{path} is {kind}; copy its content into a regular file and name that one")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_limited(path: Path, limit: int = MAX_TEXT_BYTES, check: Callable[[os.stat_result], None] | None = None) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. `check` sees the status of the open file first.

    Raises `OSError` if it cannot be read, `FileError` if it is not a regular file or is larger.
    """
    with open_regular(path) as file:
        if check:
            check(os.fstat(file.fileno()))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise FileError(f"{path}: larger than {limit:,} bytes, the limit for this kind of file; is it the right file?")
    return content


def open_plainly(path: Path) -> int:
    """Return a descriptor for reading and writing of a file that is made if need be. Never waits and follows no link.

    Raises `OSError`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    if descriptor > 2:
        return descriptor
    try:  # standard error was closed, but native libraries write to its number all the same
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def replaceable(path: Path) -> Path:
    """Return the file that is to be replaced when a result is written to `path`: what links point to, if it is one.

    Raises `OSError` if it cannot be written, `FileError` if it is no regular file, or a link that another user has made in a
    folder where anyone may: it may point to a file of ours.
    """
    target = path
    for _ in range(MAX_LINKS):
        if not target.is_symlink():
            break
        if planted_by_another(target):
            raise FileError(f"{target} is a link that another user has made; remove it, or choose another name")
        target = target.parent / target.readlink()
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileError(f"{path} leads to {target}, whose directory does not exist; create it first") from None
        return target
    if stat.S_ISDIR(mode):
        raise FileError(f"{path} is a directory; give a file in it")
    if not stat.S_ISREG(mode):
        raise FileError(f"{path} is {KINDS.get(stat.S_IFMT(mode), 'not a regular file')}; only a file can be replaced")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return target


def planted_by_another(path: Path) -> bool:
    """Whether another user has put `path` into a folder that everyone may write to, such as /tmp. Raises `OSError`."""
    folder = path.parent.stat()
    is_shared = bool(folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH)
    return is_shared and path.lstat().st_uid not in (os.geteuid(), folder.st_uid)


@contextmanager
def replacing(path: Path, mode: int | None = None, abandoned_s: float = ABANDONED_S) -> Iterator[BinaryIO]:
    """Yield a new file beside `path`; when the block succeeds, it takes the place of `path` in one step.

    A reader sees the old file or the whole new one. `mode`: its permissions; None: those of the file that it replaces, or those
    that the umask allows. What a killed process left behind `abandoned_s` seconds ago is removed. Raises `OSError`.
    """
    _remove_abandoned(path, abandoned_s)
    temporary = path.with_name(f".{_stem(path)}.{secrets.token_hex(8)}.partial")
    descriptor = os.open(temporary, CREATE_FLAGS, 0o666 if mode is None else 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with contextlib.suppress(OSError):  # a file system without locks: only the removal of abandoned files needs it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mode is None:
                take_over_permissions(path, descriptor)
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def take_over_permissions(path: Path, descriptor: int) -> None:
    """Give the open file owner and permissions of `path`, as far as we may, if that exists."""
    with contextlib.suppress(OSError):
        old = path.lstat()
        if stat.S_ISREG(old.st_mode):
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(OSError):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)


def _remove_abandoned(path: Path, age_s: float) -> None:
    """Delete files that `replacing` made for `path` in a process that no longer runs: this user's own, old and unlocked."""
    for left in path.parent.glob(f".{glob.escape(_stem(path))}.*.partial"):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, READ_FLAGS | os.O_NOFOLLOW)
            try:
                found = os.fstat(descriptor)
                if found.st_uid == os.getuid() and time.time() - found.st_mtime >= age_s:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
            finally:
                os.close(descriptor)


def _stem(path: Path) -> str:
    """Return the part of a temporary file's name that says what it replaces; file systems allow names of 255 bytes."""
    return os.fsencode(path.name)[:128].decode(errors="ignore")


def _is_null_device(found: os.stat_result) -> bool:
    null = Path(os.devnull).stat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == null.st_rdev
