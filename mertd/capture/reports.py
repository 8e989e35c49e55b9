"""The messages between the capture process and the supervisor, over one pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mertd.capture.address import Address
from mertd.capture.clock import ClockReading
from mertd.capture.source import COMPLETE, EndReport
from mertd.processes.child import Inherited
from mertd.vocabulary import EventName, GapReason

MAX_UNREPORTED_SAMPLES = 12_000
"""Most samples written between two reports: when the process dies, at most half a second of the ring is in doubt."""


@dataclass(frozen=True)
class CaptureSettings:
    """What a capture process is given when it starts."""

    address: Address
    realtime: bool  # at the pace of the audio; otherwise as fast as `Grant` allows
    start: int  # index of its first sample
    stdin: Inherited | None = None  # what to read if the address is standard input


@dataclass(frozen=True)
class Opened:
    """The source is open."""

    description: str
    rate: int  # Hz, of the source
    channels: int


@dataclass(frozen=True)
class FilledGap:
    """Samples [start, end) in the ring are zeros in place of audio."""

    start: int
    end: int
    reason: GapReason = GapReason.LOST


@dataclass(frozen=True)
class Committed:
    """Samples up to `end` are in the ring. Also the heartbeat: it is sent when nothing has changed, too."""

    end: int
    at_ns: int  # monotonic time after the write and before this message
    readings: tuple[ClockReading, ...] = ()
    gaps: tuple[FilledGap, ...] = ()


@dataclass(frozen=True)
class Discontinuity:
    """Wall time jumped against the steady clock: sample `start` begins a new epoch."""

    start: int
    jump_ns: int  # by which wall time jumped
    dropped: int = 0  # samples between the epochs, captured before the jump and delivered after it


@dataclass(frozen=True)
class Notice:
    """An event of the stream at sample `index`, to be published with its detail."""

    event: EventName
    index: int
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The audio is over."""

    reopens: bool  # more may come if the source is opened again: the next writer of a FIFO
    report: EndReport = COMPLETE  # what is missing


@dataclass(frozen=True)
class CaptureFailed:
    """The source cannot be opened or has broken, or there is a bug."""

    message: str
    exit_code: int
    retry: bool  # it may work later


@dataclass(frozen=True)
class Grant:
    """Samples below `limit` may be written. Used at fast pace only; in real time there is no limit."""

    limit: int


@dataclass(frozen=True)
class NextDue:
    """The next window ends at sample `end`: in real time, samples before it may be reported rarely."""

    end: int


@dataclass(frozen=True)
class Stop:
    """Close the source and exit."""


FromCapture = Opened | Committed | Discontinuity | Notice | Ended | CaptureFailed
ToCapture = Grant | NextDue | Stop


# A process shared by several sources. Each run of a source has a number; what is said to it or by it travels as
# `(number, message)`.


@dataclass(frozen=True)
class BeginSource:
    """Open a source and record it, in a thread of its own."""

    run: int
    stream: str  # into whose ring
    settings: CaptureSettings


@dataclass(frozen=True)
class AbandonSource:
    """The source hangs: never write for this run again."""

    run: int


@dataclass(frozen=True)
class SourceOver:
    """The run has ended: nothing of it will be written or reported any more."""

    run: int
