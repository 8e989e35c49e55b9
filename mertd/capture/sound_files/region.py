"""A stretch of a file, presented as a file of its own, and the tags that stand before or after audio."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")
"""First bytes of metadata that programs append to audio or put between two recordings."""

READ_BYTES = 1 << 16
"""Bytes read at a time."""


class Stretch(io.RawIOBase):
    """Bytes [start, end) of a file; to the file's end, also while it grows, without `end`."""

    def __init__(self, path: Path, start: int = 0, end: int | None = None) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._start = start
        self._end = end
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _size(self) -> int:
        size = os.fstat(self._descriptor).st_size
        return max(0, min(size, size if self._end is None else self._end) - self._start)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size()}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), max(0, self._size() - self._at))
        data = os.pread(self._descriptor, count, self._start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_region(path: Path, start: int = 0, end: int | None = None) -> BinaryIO:
    """Return bytes [start, end) of a file as a file. Raises `OSError`."""
    return io.BufferedReader(Stretch(path, start, end), READ_BYTES)


def skip_id3(file: BinaryIO) -> int:
    """Return the position after the ID3v2 tags at the start of `file`."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 0x7F:
            return at
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 10 + size + (10 if head[5] & 0x10 else 0)


def is_padding(file: BinaryIO, start: int, end: int) -> bool:
    """Whether bytes [start, end) hold no audio: they are zeros, or begin with a tag."""
    file.seek(start)
    if file.read(12).startswith(TAGS):
        return True
    file.seek(start)
    while start < end and (data := file.read(min(READ_BYTES, end - start))):
        if data.strip(b"\0"):
            return False
        start += len(data)
    return True
