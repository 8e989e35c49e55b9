"""The folder of what can be made again, kept from one start to the next: notes of passed self-checks, compiled kernels.

Rules of this file: no start may fail because of it. What is kept decides what is computed, and some of it is executed, so a
folder or file that another user owns, or could write to, is not used.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mertd.errors import MertdError
from mertd.files import replacing
from mertd.user_folders import cache_folder

MAX_FILE_BYTES = 1 << 26
"""Bytes of a kept file that is read: more is damage."""

MAX_KEPT = 64
"""Files of one kind that are kept: the oldest make way."""

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class CacheUnusableError(MertdError):
    """Nothing can be kept, and why."""


def open_folder(name: str) -> Path:
    """Return the folder `name` in the user's cache, made if need be. Raises `CacheUnusableError`."""
    try:
        folder = cache_folder() / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except MertdError as error:
        raise CacheUnusableError(str(error)) from error
    except OSError as error:
        raise CacheUnusableError(f"{error.filename or name}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise CacheUnusableError(f"{folder} is not a directory")
    if not _is_private(found):
        raise CacheUnusableError(f"{folder} belongs to another user, or others may write to it")
    return folder


def read_kept(path: Path) -> bytes | None:
    """Return the content of a kept file; None if it does not exist, or must not be used."""
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not _is_private(found) or found.st_size > MAX_FILE_BYTES:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def keep(path: Path, content: bytes) -> None:
    """Write a file in one step, and delete the oldest ones of its suffix beyond `MAX_KEPT`. Raises `CacheUnusableError`."""
    try:
        with replacing(path, mode=0o600) as file:
            file.write(content)
        kept = sorted(path.parent.glob(f"[!.]*{path.suffix}"), key=_changed_ns, reverse=True)
        for old in kept[MAX_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise CacheUnusableError(f"{path}: {error.strerror or error}") from error


def _changed_ns(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0


def _is_private(found: os.stat_result) -> bool:
    """Whether this user owns it and nobody else may write to it."""
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
