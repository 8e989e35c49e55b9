"""`pipe:` sources: raw PCM from standard input or a FIFO, so that `ffmpeg … | mertd run --source pipe:-` covers every codec.

It rests on these facts: a program that plays into a FIFO may remove it and make it anew, and then the old one never has another
writer; a poll of a FIFO does not report on macOS that its writer has closed it, `select` does; there a FIFO that never had a
writer looks as if its writer had closed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mertd.capture.address import PCM_FORMATS
from mertd.capture.clock_pair import read_clocks
from mertd.capture.limits import BLOCK_S, block_frames
from mertd.capture.not_pcm import NotPcmDetector
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, MAX_SLEEP_S, Block, Frames, Pacer, idle
from mertd.errors import SourceError

MAX_LEAD_S = 1.0
"""Seconds that a writer may be ahead of real time."""

RATE_TOLERANCE = 0.005
"""Share by which a writer may be faster than real time for ever; sound cards are more accurate than that."""


ENDS_BEFORE_WRITER = sys.platform == "darwin"
"""Whether a FIFO that never had a writer is at its end, and not just empty."""


class PipeSource:
    """Interleaved samples from a file descriptor. A writer that is too fast is blocked by the pipe itself."""

    explain_zeros = None
    end_report = COMPLETE

    def __init__(self, settings: CaptureSettings, descriptor: int | None = None, head: bytes = b"") -> None:
        """`descriptor`: an open one to read in place of the address's path, of which `head` was read already.

        Raises `SourceError` if the path cannot be read, or `head` is no raw PCM.
        """
        address = settings.address
        self.rate = address.rate
        self.channels = address.channels
        self._path = address.target
        self._format = address.format
        self._name = str(address)
        self._realtime = settings.realtime
        self._frame_bytes = self.channels * _sample_bytes(self._format)
        self._detector = NotPcmDetector()
        self._head = head
        self.description = f"{address}: raw {self._format}, {self.rate} Hz, {self.channels} channels"
        self._descriptor = self._open() if descriptor is None else descriptor
        mode = os.fstat(self._descriptor).st_mode if descriptor is None else 0
        self.reopens = stat.S_ISFIFO(mode)
        self._check_pcm(head)
        if stat.S_ISREG(mode):
            self.description += "; it is a file, not a FIFO, and is read to its end"
        if self._realtime and self.reopens and (dropped := self._drop_buffered()):
            self.description += f"; dropped {dropped} frames that were in it before, as their time is unknown"

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            again = isinstance(error, FileNotFoundError)  # a writer that removed it may make it anew
            raise SourceError(f"{self._name}: {error.strerror}; make one with mkfifo, or use pipe:-", retry=again) from error

    def _drop_buffered(self) -> int:
        """Read and drop what was written before anything read the pipe, since its time is unknown. Return the frames."""
        whole = self._unread() // self._frame_bytes * self._frame_bytes
        dropped = 0
        with contextlib.suppress(BlockingIOError):  # another process reads it, too
            while dropped < whole and (data := os.read(self._descriptor, whole - dropped)):
                self._check_pcm(data)
                dropped += len(data)
        return dropped // self._frame_bytes

    def _unread(self) -> int:
        """Return how many bytes a read would return now; 0 if standard input is no pipe or socket and cannot tell."""
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return 0  # what is left of a file is not what a writer has made already
        try:
            return int(struct.unpack("i", fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))[0])
        except OSError:
            return 0

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as the writer delivers them.

        The last frame of a block is as old as what is unread behind it: a writer makes those frames later, and has made them.
        """
        size = self._frame_bytes * block_frames(self.rate, self.channels, self._realtime)
        pacer = Pacer(self.rate, MAX_LEAD_S, RATE_TOLERANCE)
        done, rest = 0, self._head  # frames delivered; bytes of an incomplete block
        heard = False  # something from this descriptor
        clocks, unread = read_clocks(), 0  # when the latest bytes were read; bytes that were in the pipe after them
        while True:
            if not self._wait(MAX_SLEEP_S) and not self._was_replaced():
                yield None
                continue
            data = self._read(max(1, size - len(rest)))
            if data is None:
                yield None
                continue
            if data:  # otherwise what is left came earlier
                unread = self._unread() if self._realtime else 0
                clocks = read_clocks()  # after `unread`, so that all of that had been written
                heard = True
            elif not heard and self.reopens and (self._was_replaced() or ENDS_BEFORE_WRITER):
                yield from self._await_writer()
                continue
            rest += data
            whole = len(rest) // self._frame_bytes * self._frame_bytes
            if data and whole < size and self._wait(BLOCK_S):
                continue  # small writes are gathered into blocks
            frames, rest = self._decode(rest[:whole], done), rest[whole:]
            if len(frames):
                done += len(frames)
                age_ns = (len(frames) + unread // self._frame_bytes) * 1_000_000_000 // self.rate
                yield Block(frames, clocks.earlier(age_ns), age_ns) if self._realtime else Block(frames)
            if not data:
                break
            while self._realtime and (wait := pacer.wait(done)) > 0:
                time.sleep(min(wait, MAX_SLEEP_S))
                yield None
        if rest:
            raise SourceError(
                f"{self._name} ended within a frame: {len(rest)} bytes are left of {self._frame_bytes}; "
                f"is it really {self.channels} channels of {self._format}?"
            )

    def _wait(self, seconds: float) -> bool:
        """Wait until there is something to read or the writer has left; return False if that took too long."""
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def _read(self, size: int) -> bytes | None:
        """Return up to `size` bytes, none at the end, or None if a writer has written nothing. Raises `SourceError`."""
        try:
            data = os.read(self._descriptor, size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise SourceError(f"{self._name}: {error.strerror}", retry=self.reopens) from error
        self._check_pcm(data)
        return data

    def _check_pcm(self, data: bytes) -> None:
        """Raise `SourceError` if the first bytes are those of something else than raw PCM."""
        if kind := self._detector.feed(data):
            raise SourceError(
                f"{self._name}: this is not raw PCM but {kind}; decode it first, as with `ffmpeg -i "
                f"INPUT -f {self._format} -ar {self.rate} -ac {self.channels} -`, or read a recording with file:PATH",
                retry=self.reopens,
            )

    def _was_replaced(self) -> bool:
        """Return whether another FIFO stands at the path of this one."""
        if not self.reopens:
            return False
        try:
            now, own = Path(self._path).stat(), os.fstat(self._descriptor)
        except OSError:  # it was removed: the next one may follow
            return False
        return stat.S_ISFIFO(now.st_mode) and (now.st_dev, now.st_ino) != (own.st_dev, own.st_ino)

    def _await_writer(self) -> Iterator[None]:
        """Open the FIFO that is at the path now if it is another one; this one has no writer."""
        if self._was_replaced():
            descriptor = self._open()
            os.close(self._descriptor)
            self._descriptor = descriptor
        else:
            yield from idle(MAX_SLEEP_S)

    def _decode(self, data: bytes, done: int) -> Frames:
        """Return whole frames, (n, channels). `done`: frames before them. Raises `SourceError` if one is not finite."""
        frames = to_float(data, self._format).reshape(-1, self.channels)
        finite = np.isfinite(frames).all(axis=1)
        if not finite.all():
            at = done + int(np.argmin(finite))
            raise SourceError(
                f"{self._name}: frame {at} ({at / self.rate:.2f} s) is not a finite number; is it really {self._format}?"
            )
        return frames

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def is_readable(descriptor: int) -> bool:
    """Return whether a descriptor is open for reading. A standard input that was closed is not: see `cli.standard_streams`."""
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY


def open_source(settings: CaptureSettings) -> PipeSource:
    """Open a `pipe:` source. Raises `SourceError`."""
    descriptor = settings.stdin.detach() if settings.stdin else None
    if descriptor is not None and not is_readable(descriptor):
        raise SourceError(f"{settings.address}: standard input is closed; pipe the samples into it, or name a FIFO")
    return PipeSource(settings, descriptor)


def to_float(data: bytes, format: str) -> Frames:
    """Return raw samples as float32 with full scale 1, (samples,)."""
    if format == "s24le":
        octets = np.frombuffer(data, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(octets), 4), np.uint8)
        padded[:, 1:] = octets
        return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    raw = np.frombuffer(data, PCM_FORMATS[format])
    if format == "u8":
        return (raw.astype(np.float32) - np.float32(128)) / np.float32(128)
    if raw.dtype.kind == "i":
        return raw.astype(np.float32) / np.float32(1 << (8 * raw.itemsize - 1))
    return raw.astype(np.float32)


def _sample_bytes(format: str) -> int:
    return 3 if format == "s24le" else np.dtype(PCM_FORMATS[format]).itemsize
