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

from mertd.capture.address import PCM_FORMATS
from mertd.capture.clock_pair import read_clocks
from mertd.capture.limits import BLOCK_S, block_frames
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, MAX_SLEEP_S, Block, Frames, Pacer
from mertd.errors import SourceError

MAX_LEAD_S = 1.0
"""Seconds that a writer may be ahead of real time."""

RATE_TOLERANCE = 0.005
"""Share by which a writer may be faster than real time for ever; sound cards are more accurate than that."""


class PipeSource:
    """Interleaved samples from a file descriptor. A writer that is too fast is blocked by the pipe itself."""

    explain_zeros = None
    end_report = COMPLETE

    def __init__(self, settings: CaptureSettings, descriptor: int | None = None) -> None:
        """`descriptor`: an open one to read in place of the address's path. Raises `SourceError` if the path cannot be read."""
        address = settings.address
        try:
            self._descriptor = os.open(address.target, os.O_RDONLY | os.O_NONBLOCK) if descriptor is None else descriptor
        except OSError as error:
            raise SourceError(f"pipe {address.target}: {error.strerror}; make one with mkfifo, or use pipe:-") from error
        self.rate = address.rate
        self.channels = address.channels
        self._format = address.format
        self._name = str(address)
        self._realtime = settings.realtime
        self._frame_bytes = self.channels * _sample_bytes(self._format)
        self.reopens = descriptor is None and stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self.description = f"{address}: raw {self._format}, {self.rate} Hz, {self.channels} channels"
        if self._realtime and self.reopens and (dropped := self._drop_buffered()):
            self.description += f"; dropped {dropped} frames that were in it before, as their time is unknown"

    def _drop_buffered(self) -> int:
        """Read and drop what was written before anything read the pipe, since its time is unknown. Return the frames."""
        available = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))[0]
        whole = available // self._frame_bytes * self._frame_bytes
        dropped = 0
        with contextlib.suppress(BlockingIOError):  # another process reads it, too
            while dropped < whole and (data := os.read(self._descriptor, whole - dropped)):
                dropped += len(data)
        return dropped // self._frame_bytes

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as the writer delivers them."""
        size = self._frame_bytes * block_frames(self.rate, self.channels, self._realtime)
        pacer = Pacer(self.rate, MAX_LEAD_S, RATE_TOLERANCE)
        done, rest = 0, b""  # frames delivered; bytes of an incomplete block
        clocks = read_clocks()  # when the latest bytes were read
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            if not poll.poll(MAX_SLEEP_S * 1000):
                yield None
                continue
            try:
                data = os.read(self._descriptor, size - len(rest))
            except BlockingIOError:
                continue
            except OSError as error:
                raise SourceError(f"{self._name}: {error.strerror}", retry=self.reopens) from error
            if data:  # otherwise what is left came earlier
                clocks = read_clocks()
            rest += data
            whole = len(rest) // self._frame_bytes * self._frame_bytes
            if data and whole < size and poll.poll(BLOCK_S * 1000):
                continue  # small writes are gathered into blocks
            frames, rest = self._decode(rest[:whole], done), rest[whole:]
            if len(frames):
                done += len(frames)
                age_ns = len(frames) * 1_000_000_000 // self.rate
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


def open_source(settings: CaptureSettings) -> PipeSource:
    """Open a `pipe:` source. Raises `SourceError`."""
    descriptor = settings.stdin.detach() if settings.stdin else None
    if descriptor is not None and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
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
