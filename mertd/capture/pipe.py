"""`pipe:` sources: raw PCM from standard input or a FIFO, so that `ffmpeg … | mertd run --source pipe:-` covers every codec."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import struct
import termios
import time
from collections.abc import Iterator

import numpy as np

from mertd.capture.address import FORMATS, Address
from mertd.capture.instant import now
from mertd.capture.limits import BLOCK_S, block_frames
from mertd.capture.source import Block, Frames, Pacer
from mertd.errors import SourceError

LEAD_S, TOLERANCE = 1.0, 0.005
"""At real-time pace a writer may be a second ahead, and half a percent fast for ever: sound cards are never that wrong."""


class PipeSource:
    """Interleaved samples from a file descriptor. A writer that is too fast is held up by the pipe itself."""

    why_zeros = None

    def __init__(self, address: Address, realtime: bool, descriptor: int | None) -> None:
        """`descriptor`: an open one to read in place of the address's path. Raises `SourceError` if the path cannot be read."""
        try:
            self._descriptor = os.open(address.target, os.O_RDONLY | os.O_NONBLOCK) if descriptor is None else descriptor
        except OSError as error:
            raise SourceError(f"pipe {address.target}: {error.strerror}; make one with mkfifo, or use pipe:-") from error
        self.rate, self.channels = address.rate, address.channels
        self._format, self._where, self._realtime = address.format, str(address), realtime
        self._frame_bytes = self.channels * {"u8": 1, "s24le": 3}.get(
            self._format, np.dtype(FORMATS[self._format] or "V3").itemsize
        )
        self.reopens = descriptor is None and stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self.description = f"{address}: raw {self._format}, {self.rate} Hz, {self.channels} channels"
        if realtime and self.reopens and (stale := self._drop_stale()):
            self.description += f"; dropped {stale} frames that lay in it already, as nobody knows since when"

    def _drop_stale(self) -> int:
        """Frames read and thrown away: what was written while nobody listened would be dated now, beside what is new."""
        there = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))[0]
        rest = there // self._frame_bytes * self._frame_bytes
        dropped = 0
        with contextlib.suppress(BlockingIOError):  # somebody else reads it, too
            while dropped < rest and (data := os.read(self._descriptor, rest - dropped)):
                dropped += len(data)
        return dropped // self._frame_bytes

    def blocks(self) -> Iterator[Block | None]:
        wanted = self._frame_bytes * block_frames(self.rate, self.channels, self._realtime)
        pacer, done, rest = Pacer(self.rate, LEAD_S, TOLERANCE), 0, b""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            if not poll.poll(100):
                yield None
                continue
            try:
                data = os.read(self._descriptor, wanted - len(rest))
            except BlockingIOError:
                continue
            except OSError as error:
                raise SourceError(f"{self._where}: {error.strerror}", retry=self.reopens) from error
            rest += data
            whole = len(rest) // self._frame_bytes * self._frame_bytes
            if data and whole < wanted and self._more(poll):
                continue
            read = now()
            frames, rest = self._frames(rest[:whole], done), rest[whole:]
            if len(frames):
                done += len(frames)
                age_ns = len(frames) * 1_000_000_000 // self.rate
                yield Block(frames, read.before(age_ns), age_ns) if self._realtime else Block(frames)
            if not data:
                break
            while self._realtime and (wait := pacer.wait(done)) > 0:
                time.sleep(min(wait, 0.1))
                yield None
        if rest:
            raise SourceError(
                f"{self._where} ended in the middle of a frame: {len(rest)} bytes left over of {self._frame_bytes}; "
                f"is it really {self.channels} channels of {self._format}?"
            )

    def _more(self, poll: select.poll) -> bool:
        """Whether more will be there at once: small writes are gathered into blocks."""
        return bool(poll.poll(BLOCK_S * 1000))

    def _frames(self, data: bytes, done: int) -> Frames:
        frames = to_float(data, self._format).reshape(-1, self.channels)
        finite = np.isfinite(frames).all(axis=1)
        if not finite.all():
            at = done + int(np.argmin(finite))
            raise SourceError(
                f"{self._where}: frame {at} ({at / self.rate:.2f} s) is not a finite number; is it really {self._format}?"
            )
        return frames

    def close(self) -> None:
        os.close(self._descriptor)


def to_float(data: bytes, format: str) -> Frames:
    """Raw samples as float32 with full scale 1, (samples,)."""
    if format == "s24le":
        octets = np.frombuffer(data, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(octets), 4), np.uint8)
        padded[:, 1:] = octets
        return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    raw = np.frombuffer(data, FORMATS[format])
    if format == "u8":
        return (raw.astype(np.float32) - np.float32(128)) / np.float32(128)
    if raw.dtype.kind == "i":
        return raw.astype(np.float32) / np.float32(1 << (8 * raw.itemsize - 1))
    return raw.astype(np.float32)
