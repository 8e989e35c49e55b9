"""A FIFO, its live writer and the processor's time for its reader, in virtual time: it goes on only while the reader waits."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from capture.simulated_clocks import RATE, STEADY_NS, UNIX_NS
from mertd.capture.clock_pair import ClockPair
from mertd.capture.sources import pipe

MS = 1_000_000
SECOND = 1_000_000_000

CAPACITY = 65_536
"""Bytes in a FIFO."""

SAMPLE_BYTES = 4
"""Bytes of one float32 sample."""


@dataclass(frozen=True)
class Stretch:
    """Nanoseconds [begin, end) since the start."""

    begin: int
    end: int

    def __contains__(self, ns: int) -> bool:
        return self.begin <= ns < self.end


@dataclass
class ScriptedFifo:
    """The writer makes sound by the clock, every sample with its own number as its value, and drops what the FIFO cannot take.

    It stands for the modules `os`, `fcntl`, `select` and `time` in `mertd.capture.sources.pipe`. Times are nanoseconds since
    the start.
    """

    end_ns: int  # when the writer closes it
    every_ns: int = 5 * MS  # between two writes
    muted: tuple[Stretch, ...] = ()  # when the writer drops all sound
    starved: tuple[Stretch, ...] = ()  # when the reader is not scheduled
    now: int = 0
    made_ns: list[int] = field(default_factory=list)  # of each sample that the FIFO took: when its sound was made
    _made: int = 0  # samples, taken or not
    _next: int = 0  # time of the next write
    _inside: bytes = b""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let `pipe:` sources read this FIFO."""
        for name in ("os", "fcntl", "select", "time"):
            patch.setattr(pipe, name, self)
        patch.setattr(pipe, "read_clocks", self.read_clocks)
        patch.setattr("mertd.capture.source.time", self)

    def read_clocks(self) -> ClockPair:
        return ClockPair(UNIX_NS + self.now, STEADY_NS + self.now)

    # `os`

    def read(self, _: int, size: int) -> bytes:
        data, self._inside = self._inside[:size], self._inside[size:]
        return data

    def fstat(self, _: int) -> SimpleNamespace:
        return SimpleNamespace(st_mode=stat.S_IFIFO)

    # `fcntl`

    def ioctl(self, _descriptor: int, _request: int, _room: bytes) -> bytes:
        return struct.pack("i", len(self._inside))

    # `select`

    def select(self, readers: list[int], _writers: list[int], _others: list[int], timeout: float) -> tuple[list[int], ...]:
        """As the kernel does, look once more after the timeout."""
        deadline = self.now + round(timeout * SECOND)
        while not self._inside and self.now < min(deadline, self.end_ns):
            self._advance(min(deadline, max(self._next, self.now + 1)))
        return (readers if self._inside or self.now >= self.end_ns else [], [], [])

    # `time`

    def monotonic(self) -> float:
        return self.now / 1e9

    def sleep(self, seconds: float) -> None:
        self._advance(self.now + round(seconds * 1e9) + 1)

    # Within

    def _advance(self, to: int) -> None:
        """Let time pass until the reader is scheduled, at `to` or after it."""
        for starved in self.starved:
            to = starved.end if to in starved else to
        while self._next <= min(to, self.end_ns):
            self._write(self._next)
            self._next += self.every_ns
        self.now = to

    def _write(self, ns: int) -> None:
        first, self._made = self._made, ns * RATE // SECOND
        room = 0 if any(ns in muted for muted in self.muted) else (CAPACITY - len(self._inside)) // SAMPLE_BYTES
        taken = min(room, self._made - first)
        numbers = len(self.made_ns) + np.arange(taken)
        self._inside += numbers.astype("<f4").tobytes()
        self.made_ns += [UNIX_NS + (first + n) * SECOND // RATE for n in range(taken)]
