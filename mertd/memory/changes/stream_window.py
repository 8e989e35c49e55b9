"""What the detection of changes needs of one window, and what it says about windows.

Rules of this file: no I/O, nothing but data. Times are Unix nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mertd.wire import Embedding


@dataclass(frozen=True, eq=False)
class StreamWindow:
    """One window of a stream, as it is remembered."""

    boot: bytes  # run of the daemon
    epoch: int
    seq: int
    first: int  # number of its first sample, in this run
    length: int  # samples
    start_ns: int
    end_ns: int
    vector: NDArray[np.floating]  # of any shape, as it was published

    @property
    def middle(self) -> int:
        """Number of the sample in the middle of the window."""
        return self.first + self.length // 2

    @property
    def middle_ns(self) -> int:
        return (self.start_ns + self.end_ns) // 2


def window_of(message: Embedding) -> StreamWindow:
    """Return the window that a message describes."""
    window, time = message.window, message.time
    length = window.end - window.start
    return StreamWindow(
        message.boot, message.epoch, message.seq, window.start, length, time.start_ns, time.end_ns, message.vector
    )


class ChangeKind(StrEnum):
    """What happened."""

    CHANGE = "change"
    RETURN = "return"


@dataclass(frozen=True)
class SectionSpan:
    """Windows of one run of a daemon that sound alike."""

    boot: bytes
    first_seq: int
    last_seq: int
    start_ns: int  # its boundaries, or where the first window begins and the last one ends
    end_ns: int


@dataclass(frozen=True)
class Change:
    """One boundary between two windows of one epoch."""

    kind: ChangeKind
    boot: bytes
    epoch: int
    index: int  # sample of the boundary
    time_ns: int  # best estimate of the boundary
    bound_ns: int  # the boundary lies within this of `time_ns`
    strength: float  # novelty over the stream's variance, or for a return the similarity with the earlier section
    seq: int  # of the newest window that was needed
    detected_ns: int  # end of that window
    like: SectionSpan | None = None  # for a return: the earlier section


@dataclass(frozen=True)
class Gap:
    """Nothing is known of the time between two windows: what follows it begins anew."""

    from_ns: int  # end of the window before
    to_ns: int  # start of the window after


Found = Change | Gap
