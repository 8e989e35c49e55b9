"""What the capture process and the supervisor say to each other, over one pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mertd.capture.address import Address
from mertd.capture.clock import Reading
from mertd.processes.child import Inherited

WRITE = 12_000
"""Samples written between two reports, at most: no death of the process leaves more than half a second in doubt."""


@dataclass(frozen=True)
class CaptureSettings:
    """What a capture process is told at its start. `start`: index of its first sample. `stdin`: for `pipe:-`."""

    address: Address
    realtime: bool
    start: int
    stdin: Inherited | None = None


@dataclass(frozen=True)
class Opened:
    """The source is open."""

    description: str
    rate: int  # Hz, of the source
    channels: int


@dataclass(frozen=True)
class Gap:
    """Samples [start, end) were lost on the way in and are zeros in the ring. `reason`: `lost`, or `not finite`: no numbers."""

    start: int
    end: int
    reason: str = "lost"


@dataclass(frozen=True)
class Committed:
    """Samples up to `end` are in the ring. `at_ns`: monotonic time after the write, before this message.

    Also the heartbeat: it is sent when nothing has changed, too.
    """

    end: int
    at_ns: int
    readings: tuple[Reading, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class Discontinuity:
    """Wall time jumped by `jump_ns` against the steady clock: sample `start` begins a new epoch.

    `dropped`: samples between the epochs that were heard before the jump and handed over after it.
    """

    start: int
    jump_ns: int
    dropped: int = 0


@dataclass(frozen=True)
class Notice:
    """Something that subscribers should know of sample `index`: the name of an event, and its detail."""

    event: str
    index: int
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The audio is over. `reopens`: more may come if the source is opened again (the next writer of a FIFO)."""

    reopens: bool


@dataclass(frozen=True)
class Failed:
    """The source cannot be opened or has broken, or there is a bug. `retry`: it may work later."""

    message: str
    exit_code: int
    retry: bool


@dataclass(frozen=True)
class Grant:
    """Samples below `limit` may be written (only at fast pace; otherwise there is no limit)."""

    limit: int


@dataclass(frozen=True)
class Stop:
    """Close the source and exit."""


FromCapture = Opened | Committed | Discontinuity | Notice | Ended | Failed
ToCapture = Grant | Stop
