"""Sources whose bytes come through a pipe: FIFOs, standard input, `<(…)` of a shell. They carry a sound file or raw PCM.

A sound file is copied to a temporary file without a name first, because its length and its end decide how it is read.
"""

from __future__ import annotations

import os
import select
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mertd.capture.address import Address
from mertd.capture.not_pcm import EXAMINED_BYTES
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import MAX_SLEEP_S, AudioSource, EndReport
from mertd.capture.sources.file import FileSource
from mertd.capture.sources.pipe import ENDS_BEFORE_WRITER, PipeSource, is_readable
from mertd.errors import SourceError
from mertd.offline.inputs import Input
from mertd.offline.sound_names import begins_like_sound

WRITER_S = 5.0
"""Seconds to wait for a program to open a FIFO that is named as a file, as among many files; `pipe:FIFO` waits for ever."""

READ_BYTES = 1 << 16
"""Bytes read at a time: what a pipe holds."""

OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DESCRIPTORS = Path("/proc/self/fd")


def open_piped(item: Input, stopping: Callable[[], bool]) -> AudioSource:
    """Open what comes through a pipe; blocks until its first bytes, or all of a sound file, have come.

    Once `stopping` returns True, the pipe counts as ended. Raises `SourceError`.
    """
    pipe = _PipeReader(item, stopping)
    try:
        head = pipe.read_head()
        if not head:
            raise SourceError(f"{item.label} ended before anything came")
        if begins_like_sound(head):
            return _SpooledSource(item, head, pipe)
        if not item.may_be_raw:
            raise SourceError(
                f"{item.label}: what it carries is no sound file; raw PCM is read from "
                f"pipe:{item.address.target}?rate=…&channels=…&format=…"
            )
        source = PipeSource(CaptureSettings(item.address, realtime=False, start=0), pipe.descriptor, head)
        pipe.detach()
        return source
    finally:
        pipe.close()


class _PipeReader:
    """The bytes of a pipe, which may be idle."""

    def __init__(self, item: Input, stopping: Callable[[], bool]) -> None:
        self._item = item
        self._stopping = stopping
        self._descriptor: int | None = _open(item)
        self._is_fifo = not _is_inherited(item.address) and stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self._heard = False  # anything from it

    def read_head(self) -> bytes:
        """Return the first bytes: EXAMINED_BYTES of them, or all there are."""
        head = b""
        while len(head) < EXAMINED_BYTES and (
            data := self.read(EXAMINED_BYTES - len(head), waits=bool(head) or self._item.may_be_raw)
        ):
            head += data
            if len(head) >= 4 and begins_like_sound(head):
                break
        return head

    def read(self, count: int, waits: bool = True) -> bytes:
        """Return the next bytes, at most `count`; none at the end. Without `waits` a FIFO must be opened within WRITER_S."""
        deadline = time.monotonic() + WRITER_S
        while not self._stopping():
            ready = bool(select.select([self.descriptor], [], [], MAX_SLEEP_S)[0])
            if not ready and not self._is_fifo:
                continue
            try:
                data = os.read(self.descriptor, count)
            except BlockingIOError:  # a program has opened it and has not written yet
                continue
            except OSError as error:
                raise SourceError(f"{self._item.label}: {error.strerror}") from error
            if data or (ready and not (self._is_fifo and ENDS_BEFORE_WRITER and not self._heard)):
                self._heard = True
                return data
            if ready:
                time.sleep(MAX_SLEEP_S)
            if not waits and time.monotonic() > deadline:
                raise SourceError(
                    f"{self._item.label} is a FIFO that no program has opened for writing in {WRITER_S:g} s; "
                    f"pipe:{self._item.address.target} waits until one does"
                )
        return b""

    @property
    def descriptor(self) -> int:
        """The open descriptor."""
        assert self._descriptor is not None
        return self._descriptor

    def detach(self) -> None:
        """Leave the descriptor to what reads it from now on."""
        self._descriptor = None

    def close(self) -> None:
        """Close the descriptor, unless it was detached."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _SpooledSource:
    """A sound file that came through a pipe."""

    reopens = False
    explain_zeros = None

    def __init__(self, item: Input, head: bytes, pipe: _PipeReader) -> None:
        """Raises `SourceError` if it cannot be copied, or is not audio."""
        # Linux opens a file without a name by its descriptor; elsewhere it needs a name until it is closed.
        nameless = DESCRIPTORS.is_dir()
        try:
            self._file: Any = tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise SourceError(f"{item.label}: no temporary file can be made for it: {error}") from error
        path = str(DESCRIPTORS / str(self._file.fileno())) if nameless else str(self._file.name)
        try:
            while head:
                self._file.write(head)
                head = pipe.read(READ_BYTES)
            self._file.flush()
            self._source = FileSource(CaptureSettings(replace(item.address, kind="file", target=path), realtime=False, start=0))
        except SourceError as error:
            self._file.close()
            raise SourceError(str(error).replace(path, item.label)) from error
        except OSError as error:
            self.close_quietly()
            folder = tempfile.gettempdir()
            raise SourceError(
                f"{item.label}: cannot be copied to {folder}: {error.strerror}; TMPDIR may name another folder"
            ) from error
        self.rate = self._source.rate
        self.channels = self._source.channels
        self.description = self._source.description.replace(Path(path).name, item.label)
        self.blocks = self._source.blocks

    @property
    def end_report(self) -> EndReport:
        """What is missing."""
        return self._source.end_report

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._source.close()
        self._file.close()

    def close_quietly(self) -> None:
        """Close the file although what is still buffered cannot be written."""
        self._file.raw.close()


def _is_inherited(address: Address) -> bool:
    """Whether the pipe was there when mertd was started: then it has, or had, a writer."""
    return address.target == "-" or address.target.startswith("/dev/")


def _open(item: Input) -> int:
    target = item.address.target
    try:
        if target != "-":
            return os.open(target, OPEN_FLAGS)
        if not is_readable(0):
            raise SourceError(f"{item.label}: standard input is closed; pipe a sound file or samples into it")
        if os.isatty(0):
            raise SourceError("standard input is a terminal, which delivers no sound; pipe a program's output into it")
        return os.dup(0)
    except OSError as error:
        raise SourceError(f"{item.label}: {error.strerror}") from error
