"""Sound that tells when it was made: a source of raw PCM whose every window says which of its samples it consists of.

The magnitude of sample n grows exponentially with n, so a window's level in decibels is a straight line in the number of its
first sample: its mean power is a² g^n (g^N - 1) / (N (g - 1)). The sign alternates and costs nothing. Levels are published in
float64, so a number is found to a fraction of a millisecond.

Samples are made at a steady pace, as by a microphone; when is noted for each that a pipe has taken. What a pipe does not
take at once is dropped, as a live source does that has no room for it, and is never numbered.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np

QUIETEST_DBFS = -60.0
"""Lowest level of the code."""

LOUDEST_DBFS = -1.0
"""Highest level of the code."""

SAMPLE_BYTES = 4
"""Bytes of one float32 sample."""


class Timecode:
    """Up to `most` samples, float32 at `rate` Hz."""

    def __init__(self, most: int, rate: int, window: int) -> None:
        self._rate, self._window = rate, window
        self._slope = (LOUDEST_DBFS - QUIETEST_DBFS) / most  # dB a sample
        growth = 10 ** (self._slope / 10)
        self._level = QUIETEST_DBFS + 10 * math.log10((growth**window - 1) / (window * (growth - 1)))
        self._firsts: list[int] = []  # of chunks: number of the first sample, and when it was made
        self._made: list[int] = []
        self._next = 0
        self._lock = RLock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While samples are written, nobody may ask when they were made: that is noted a moment later."""
        with self._lock:
            yield

    def samples(self, count: int) -> bytes:
        """The next `count` samples, not yet taken."""
        numbers = self._next + np.arange(count)
        magnitude = 10 ** ((QUIETEST_DBFS + self._slope * numbers) / 20)
        return np.where(numbers // 32 % 2, magnitude, -magnitude).astype("<f4").tobytes()

    def taken(self, count: int, made_ns: int) -> None:
        """The first `count` of those samples are in the pipe; the first of them was made at `made_ns`."""
        if count:
            with self._lock:
                self._firsts.append(self._next)
                self._made.append(made_ns)
                self._next += count

    def number(self, rms_dbfs: float) -> int:
        """Of the first sample of a window with that level."""
        return round((rms_dbfs - self._level) / self._slope)

    def made(self, number: int) -> int | None:
        """When a sample was made, Unix ns; None for one that was not."""
        with self._lock:
            if not 0 <= number < self._next:
                return None
            at = bisect_right(self._firsts, number) - 1
            return self._made[at] + (number - self._firsts[at]) * 1_000_000_000 // self._rate

    def window(self, rms_dbfs: float) -> tuple[int, int] | None:
        """When the first sample of a window with that level was made, and the one behind its last."""
        first = self.number(rms_dbfs)
        start, last = self.made(first), self.made(first + self._window - 1)
        return None if start is None or last is None else (start, last + 1_000_000_000 // self._rate)
