"""What a source of audio is to the rest of capture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mertd.capture.instant import Instant

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """Consecutive frames, (n, channels) float32, full scale 1.

    `heard`: when the first one was, if the source has a clock of its own, judged `age_ns` later. `lost`: frames that went
    missing just before. `spoilt`: frames [a, b) of this block that came as no numbers and are zeros now.
    """

    frames: Frames
    heard: Instant | None = None
    age_ns: int = 0
    lost: int = 0
    spoilt: tuple[int, int] | None = None


@dataclass(frozen=True)
class Cause:
    """Why a device gives nothing but zeros: one of `CAUSES`, and what to do about it."""

    cause: str
    hint: str


CAUSES = ("no_consent", "muted", "idle_monitor", "unknown")


class Source(Protocol):
    """An open source. Raises `SourceError` from `blocks` when it breaks; the iterator ends when the audio does."""

    rate: int  # Hz
    channels: int
    description: str
    reopens: bool  # after its end more may come, if it is opened again

    @property
    def why_zeros(self) -> Callable[[], Cause] | None:
        """Tells the cause, of a source that should not be exactly silent for long; None for others."""

    def blocks(self) -> Iterator[Block | None]:
        """Blocks as they come; None when there is nothing yet, at least ten times a second."""

    def close(self) -> None: ...


class Pacer:
    """Lets a source that could run ahead keep pace with the wall clock."""

    def __init__(self, rate: int, lead_s: float = 0.0, tolerance: float = 0.0) -> None:
        """`lead_s`: how far it may be ahead. `tolerance`: how much faster than nominal it may run for ever."""
        self._rate, self._lead, self._speed = rate, lead_s, 1 + tolerance
        self._start: float | None = None

    def wait(self, frames: int) -> float:
        """Seconds until `frames` frames in all may have been let through; 0 if they may now. Starts the clock."""
        now = time.monotonic()
        if self._start is None:
            self._start = now
        return max(0.0, frames / self._rate / self._speed - self._lead - (now - self._start))


def idle(seconds: float) -> Iterator[None]:
    """Sleep for `seconds`, at most a tenth, then yield None: the pulse of a source that has nothing to give."""
    time.sleep(min(seconds, 0.1))
    yield None
