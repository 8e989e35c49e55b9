"""A file with places in streams of messages: locked, checked, and replaced in one step."""

from __future__ import annotations

import fcntl
import json
import os
import time
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mertd.errors import StoreError
from mertd.files import FileError, read_limited, replaceable, replacing
from mertd.user_folders import expand_home

VERSION = 1
"""Of the file's format."""

SAVE_S = 0.5
"""Seconds between two replacements of a file, at least."""

SAVE_MESSAGES = 200
"""Messages after which it is replaced sooner."""

MAX_FILE = 4 << 20
"""Bytes of a file that is read: some ten thousand streams."""

T = TypeVar("T")


class PlaceFile:
    """The file, and a lock beside it: one process at a time may use it.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Lock it. Raises `StoreError` if another process uses it."""
        try:
            self.path = replaceable(expand_home(path).absolute())
        except (OSError, FileError) as error:
            raise StoreError(f"the cursor {path} cannot be used: {error}") from error
        self._written_s = float("-inf")
        # Without `release`, the lock is given back when nothing refers to this any more.
        self.release = weakref.finalize(self, os.close, _lock(self.path))

    def read(self, parse: Callable[[dict[str, Any]], T | None]) -> T | None:
        """Return what `parse` makes of the content; None if there is no file. Raises `StoreError` if it is damaged."""
        try:
            return _read(self.path, parse)
        except BaseException:
            self.release()
            raise

    def due_at(self, is_changed: bool, messages: int) -> float:
        """Return the monotonic seconds at which it is to be written again; infinite if nothing has changed.

        `messages`: how many the client is done with that are not in the file.
        """
        if messages >= SAVE_MESSAGES:
            return float("-inf")
        return self._written_s + SAVE_S if is_changed else float("inf")

    def write(self, body: dict[str, Any]) -> None:
        """Replace the content, and return when it is on the disk. Raises `StoreError`."""
        try:
            with replacing(self.path, 0o600) as file:
                file.write(_packed(body))
        except OSError as error:
            raise StoreError(f"the cursor {self.path} cannot be written: {error.strerror or error}") from error
        self._written_s = time.monotonic()


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock. Raises `StoreError`."""
    beside = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"the cursor {path} cannot be locked: {beside}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(f"the cursor {path} is in use by another client; give each client a file of its own") from None
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"the cursor {path} cannot be locked: {error.strerror}; keep it on a local disk") from error
    return descriptor


def _read(path: Path, parse: Callable[[dict[str, Any]], T | None]) -> T | None:
    try:
        content = read_limited(path, MAX_FILE)
    except FileNotFoundError:
        return None
    except (OSError, FileError) as error:
        raise StoreError(f"the cursor {path} cannot be read: {error}") from error
    try:
        found = json.loads(content)
        version, body = found["mertd_cursor"], found["daemons"]
        if version == VERSION and content == _packed(body):
            return parse(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        version = VERSION
    if version != VERSION:
        raise StoreError(f"the cursor {path} is of version {version!r:.20}, and this mertd knows {VERSION}; update mertd")
    raise StoreError(f"{path} is damaged, or is no cursor of mertd; delete it to begin anew, or name another file")


def _packed(body: dict[str, Any]) -> bytes:
    """Return the content of a file, with a checksum: a place that is wrong would lose messages in silence."""
    checksum = zlib.crc32(json.dumps(body).encode())
    return json.dumps({"mertd_cursor": VERSION, "checksum": checksum, "daemons": body}).encode() + b"\n"
