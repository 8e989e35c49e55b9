"""The file in which a batch keeps what is done until its result is complete: records, appended and never changed.

Rules of this file: it knows nothing of audio. A process that is killed leaves a whole record or the beginning of one, which is
cut off when the file is opened again. One process at a time has it open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mertd.errors import MertdError
from mertd.files import open_plainly, planted_by_another, take_over_permissions

MARK = b"mertd journal 2\n"
"""First bytes of the file."""

OTHER_VERSION = rb"mertd journal [0-9]\n"
"""First bytes of a journal with other records."""

HEAD = struct.Struct(">4sII")
"""Before the content of a record: its kind, the number of bytes in it, and the CRC-32 of kind and content."""

MAX_CONTENT_BYTES = 1 << 28
"""Longest record, in bytes: more is damage."""

PROBE_BYTES = 1 << 16
"""Bytes that must fit on the disk before the work begins."""

SYNC_S = 5.0
"""Seconds between two requests to the system to write to the disk, for the case that its power fails."""


class JournalError(MertdError):
    """The journal cannot be written or read, or is that of something else."""


class Journal:
    """An open journal, positioned at its end."""

    def __init__(self, path: Path, like: Path) -> None:
        """Open `path`, or make it with the permissions of `like`.

        Raises `JournalError` if that fails, another process has it, or it holds something else.
        """
        self.path = path
        self._synced_s = time.monotonic()
        try:
            self.is_new = not os.path.lexists(path)
            descriptor = open_plainly(path)
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            if self.is_new:
                take_over_permissions(like, descriptor)
            self._check()
            self._end = len(MARK)
            self._check_mark()
            self._end = self._whole_bytes()
            self._file.truncate(self._end)
            self._probe()
        except OSError as error:
            self.close()
            raise JournalError(f"{path} cannot be written: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise JournalError(f"{self.path} is not a regular file; move it away, or choose another name for the result")
        if planted_by_another(self.path):
            raise JournalError(f"{self.path} belongs to another user; choose another folder for the result")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise JournalError(f"{self.path} is being written by another mertd; wait until it has ended") from error
            # a file system without locks
        if not os.path.samestat(os.fstat(self._file.fileno()), self.path.lstat()):
            raise JournalError(f"{self.path} was replaced by another mertd just now; try again")

    def _check_mark(self) -> None:
        """Write the mark into a file that is new, or in which a killed process has not come further than that."""
        found = self._file.read(len(MARK)) or b""
        if found == MARK:
            return
        if re.fullmatch(OTHER_VERSION, found):
            raise JournalError(
                f"{self.path} is of another version of mertd; finish it with that one, or delete it to begin anew"
            )
        size = os.fstat(self._file.fileno()).st_size
        if size > len(MARK) + PROBE_BYTES or not MARK.startswith(found.rstrip(b"\0")):
            raise JournalError(f"{self.path} holds something else; move it away, or choose another name for the result")
        self._file.truncate(0)
        self._write_at(0, MARK)

    def _whole_bytes(self) -> int:
        """Return the position after the last whole record."""
        end = len(MARK)
        for _, position, length in self._scan():
            end = position + HEAD.size + length
        return end

    def _probe(self) -> None:
        """Write a little beyond the end and cut it off again: a full disk is found before the work."""
        self._write_at(self._end, bytes(PROBE_BYTES))
        self._file.truncate(self._end)

    def append(self, kind: bytes, content: bytes) -> int:
        """Write a record and return its position. Raises `JournalError`; then nothing of it is left."""
        position = self._end
        try:
            self._write_at(position, HEAD.pack(kind, len(content), _check_sum(kind, content)) + content)
            if time.monotonic() - self._synced_s > SYNC_S:
                self.sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(position)
            raise JournalError(f"{self.path} cannot be written on: {error.strerror}") from error
        self._end += HEAD.size + len(content)
        return position

    def _write_at(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]

    def sync(self) -> None:
        """Have the system write what it holds to the disk. Raises `OSError`."""
        os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def records(self, position: int = len(MARK)) -> Iterator[tuple[bytes, int, bytes]]:
        """Yield kind, position and content of the records from `position` on. Raises `JournalError` if it cannot be read."""
        try:
            with self.path.open("rb") as file:
                file.seek(position)
                while position < self._end:
                    kind, length, _ = HEAD.unpack(_exactly(file, HEAD.size))
                    yield kind, position, _exactly(file, length)
                    position += HEAD.size + length
        except OSError as error:
            raise JournalError(f"{self.path} cannot be read: {error.strerror}") from error

    def contents(self, positions: Iterable[int]) -> Iterator[bytes]:
        """Yield the contents of the records at `positions`. Raises `JournalError` if they cannot be read."""
        try:
            with self.path.open("rb") as file:
                for position in positions:
                    file.seek(position)
                    _, length, _ = HEAD.unpack(_exactly(file, HEAD.size))
                    yield _exactly(file, length)
        except OSError as error:
            raise JournalError(f"{self.path} cannot be read: {error.strerror}") from error

    def _scan(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield kind, position and length of every whole record."""
        position = len(MARK)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            file.seek(position)
            while len(head := file.read(HEAD.size)) == HEAD.size:
                kind, length, check = HEAD.unpack(head)
                if length > MAX_CONTENT_BYTES or not kind.isalpha():
                    return
                content = file.read(length)
                if len(content) < length or _check_sum(kind, content) != check:
                    return
                yield kind, position, length
                position += HEAD.size + length

    @property
    def is_empty(self) -> bool:
        """Whether there is no record."""
        return self._end == len(MARK)

    def clear(self) -> None:
        """Forget all records. Raises `OSError`."""
        self._file.truncate(len(MARK))
        self._end = len(MARK)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, which releases it for others."""
        self._file.close()


def _check_sum(kind: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(kind))


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise OSError(errno.EIO, "it has become shorter")
    return data
