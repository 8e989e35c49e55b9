"""What every audio source offers to the rest of capture, and what sources have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mertd.capture.clock_pair import ClockPair
from mertd.vocabulary import ZerosCause

Frames = NDArray[np.float32]
"""Consecutive frames, (n, channels), full scale 1."""

MAX_SLEEP_S = 0.1
"""Seconds that a source may sleep before it gives a sign of life."""


@dataclass(frozen=True)
class Block:
    """Consecutive frames as a source delivers them."""

    frames: Frames
    captured_at: ClockPair | None = None  # when the first frame was captured; None if the source has no clock of its own
    age_ns: int = 0  # how long after `captured_at` the clocks were read
    lost: int = 0  # frames that went missing just before this block
    nonfinite: tuple[int, int] | None = None  # frames [start, end) that held NaN or infinities and are zeros now


@dataclass(frozen=True)
class EndReport:
    """What there is to say about a source whose audio is over."""

    missing_s: float = 0.0  # seconds of its audio, at least, that could not be read
    reason: str = ""  # why they are missing; not empty if anything is, even if `missing_s` is unknown and 0
    hints: tuple[str, ...] = ()  # advice about the audio that was read

    def __str__(self) -> str:
        return f"at least {self.missing_s:.2f} s of its audio are missing: {self.reason}" if self.reason else "complete"


COMPLETE = EndReport()
"""The report of a source of which nothing can be missing, such as a device: it has no length."""


@dataclass(frozen=True)
class ZerosExplanation:
    """The likeliest reason why a source delivers only zeros, and what the user can do."""

    cause: ZerosCause
    hint: str


class AudioSource(Protocol):
    """An open source."""

    rate: int  # Hz
    channels: int
    description: str
    reopens: bool  # more audio may come if it is opened again after its end

    @property
    def explain_zeros(self) -> Callable[[], ZerosExplanation] | None:
        """A function that explains why only zeros come; None for a source that may be silent."""

    @property
    def end_report(self) -> EndReport:
        """What is missing, complete once `blocks` has ended."""

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as they come, and None at least ten times a second while there are none.

        The iterator ends when the audio does. Raises `SourceError` when the source breaks.
        """

    def close(self) -> None:
        """Release the source."""


class Pacer:
    """Holds a source that could run ahead to the pace of the wall clock."""

    def __init__(self, rate: int, lead_s: float = 0.0, tolerance: float = 0.0) -> None:
        """`lead_s`: seconds that it may be ahead. `tolerance`: the share by which it may be too fast for ever."""
        self._rate = rate
        self._lead_s = lead_s
        self._speed = 1 + tolerance
        self._start: float | None = None
        self._waited = False  # for the first frames, which are late by what the sleep took too long

    def wait(self, frames: int) -> float:
        """Return the seconds until `frames` frames in all may have been passed on; 0 if they may now. Starts the clock.

        If the first frames had to wait, the pace counts from when they were passed on, so that none comes too early after them.
        """
        now = time.monotonic()
        due_s = frames / self._rate / self._speed - self._lead_s
        if self._start is None:
            self._start = now
            self._waited = due_s > 0
        elif self._waited and now - self._start >= due_s:
            self._start, self._waited = now - due_s, False
        return max(0.0, due_s - (now - self._start))


def idle(seconds: float) -> Iterator[None]:
    """Sleep for `seconds`, at most MAX_SLEEP_S, then yield None, the sign of life of a source that has nothing to deliver."""
    time.sleep(min(seconds, MAX_SLEEP_S))
    yield None
