"""How the bus says that messages are gone for good: an event `hole` under `mertd.DAEMON.STREAM.event`.

Rules of this file: no socket, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from mertd.bus.message_id import HoleId
from mertd.errors import BusError
from mertd.vocabulary import EventName, HoleCause
from mertd.wire import Embedding, Event, Message


@dataclass(frozen=True)
class BusHole:
    """Messages of `kind` with first <= `seq` < end that are not on the bus and never will be. `reason`: a `HoleCause`."""

    boot: bytes
    daemon: str
    stream: str
    kind: str
    first: int
    end: int
    reason: str

    def event(self, behind: Embedding | Event) -> Event:
        """Return the event that announces it. `behind`: the first message after it."""
        index, time_ns = (
            (behind.window.start, behind.time.start_ns) if isinstance(behind, Embedding) else (behind.index, behind.time_ns)
        )
        detail = {"kind": self.kind, "first": self.first, "end": self.end, "reason": str(self.reason)}
        return Event(self.boot, self.daemon, self.stream, behind.epoch, 0, EventName.HOLE.value, index, time_ns, detail)

    def id(self, next_seq: int) -> HoleId:
        """Return the identity of that event. `next_seq`: of the event that follows on its subject."""
        return HoleId(self.boot, self.stream, self.kind, self.first, self.end, next_seq)


def missed(message: Embedding | Event, count: int, reason: HoleCause = HoleCause.MISSED) -> BusHole:
    """Return the hole of so many messages before this one."""
    return BusHole(message.boot, message.daemon, message.stream, message.kind, message.seq - count, message.seq, reason)


def too_large(message: Embedding | Event) -> BusHole:
    """Return the hole that a message leaves that the bus does not take."""
    seq, reason = message.seq, HoleCause.TOO_LARGE
    return BusHole(message.boot, message.daemon, message.stream, message.kind, seq, seq + 1, reason)


def as_hole(message: Message) -> BusHole | None:
    """Return the hole that a message announces; None if it is another one. Raises `BusError` if it does not say which."""
    if not isinstance(message, Event) or message.event != EventName.HOLE:
        return None
    match message.detail:
        case {"kind": "embedding" | "event" as kind, "first": int() as first, "end": int() as end, "reason": str() as reason}:
            if 0 <= first < end:
                return BusHole(message.boot, message.daemon, message.stream, kind, first, end, reason)
    raise BusError(f"a hole of {message.stream!r:.100} at {message.daemon!r:.100} does not say what is gone")
