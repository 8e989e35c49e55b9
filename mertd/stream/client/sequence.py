"""Which messages of a daemon have come, and which are missing.

Rules of this file: no socket, no clock. `seq` counts per (boot, kind, stream) without holes, and one endpoint has one daemon at
a time, so everything that a connection has missed can be named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mertd.wire import Embedding, Event, Message, Status

COUNTERS = {"embedding": "embedded", "event": "events"}
"""Counter in a stream's status that says how many messages of a kind it has sent: the `seq` of the next one."""


EARLIEST_NS = -(1 << 63)
"""Before all messages."""

Cursor = Mapping[bytes, Mapping[tuple[str, str], int]]
"""By boot, kind and stream, the `seq` of the next message that is expected."""


@dataclass(frozen=True)
class MissingRange:
    """Messages with first <= `seq` < end that have not come."""

    boot: bytes
    kind: str
    stream: str
    first: int
    end: int

    @property
    def count(self) -> int:
        return self.end - self.first

    def has(self, message: Message) -> bool:
        """Return whether a message is one of those missing."""
        if not isinstance(message, Embedding | Event):
            return False
        same = (message.boot, message.kind, message.stream) == (self.boot, self.kind, self.stream)
        return same and self.first <= message.seq < self.end


@dataclass(frozen=True)
class Found:
    """A page of messages that were missing, oldest first. `more`: there are others behind them."""

    messages: list[Embedding | Event]
    more: bool

    def rest(self, missing: MissingRange) -> MissingRange | None:
        """Return what is still to be asked for of a range; None if there is nothing."""
        if not self.more or not self.messages or self.messages[-1].seq + 1 >= missing.end:
            return None
        return replace(missing, first=self.messages[-1].seq + 1)


class Sequence:
    """The numbering of one connection's messages, by kind and stream.

    Attributes:
        heard_ns: the latest time of this run's messages.
    """

    def __init__(self, resume: Cursor | None = None) -> None:
        """`resume`: what came before this connection; everything after it is expected."""
        self._resume = resume
        self._boot: bytes | None = None
        self._next: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], int] = {}  # what was expected first of this run
        self._uptime_ns = 0  # of the daemon, by its last status
        self.heard_ns = EARLIEST_NS
        self._from_the_start = False  # this daemon was started while the client was listening, so nothing may be missing

    def missing(self, message: Embedding | Event) -> MissingRange | None:
        """Return what should have come before this message. Of a daemon started meanwhile, that is everything."""
        self._note_boot(message.boot)
        first = self._next.get((message.kind, message.stream), 0 if self._from_the_start else message.seq)
        if first >= message.seq:
            return None
        return MissingRange(message.boot, message.kind, message.stream, first, message.seq)

    def missing_by(self, status: Status, kinds: tuple[str, ...], streams: tuple[str, ...]) -> list[MissingRange]:
        """Return what the daemon had sent before this status and has not come, of those `kinds` and `streams` (none: all)."""
        self._note_boot(status.boot)
        if status.uptime_ns < self._uptime_ns:  # a replay was started again: its messages are the same, and all come again
            self._next = dict(self._first)
        self._uptime_ns = status.uptime_ns
        self.heard_ns = max(self.heard_ns, status.time_ns)
        found: list[MissingRange] = []
        for stream, counters in status.streams.items():
            for kind in kinds:
                end = counters.get(COUNTERS.get(kind, "")) if isinstance(counters, dict) else None
                if not isinstance(end, int) or (streams and stream not in streams):
                    continue
                first = self._next.get((kind, stream), 0 if self._from_the_start else end)
                self._next.setdefault((kind, stream), first)
                self._first.setdefault((kind, stream), first)
                if first < end:
                    found.append(MissingRange(status.boot, kind, stream, first, end))
        return found

    def begin(self, missing: MissingRange) -> None:
        """Expect the messages of a range too, and all after it."""
        self._note_boot(missing.boot)
        self._next[missing.kind, missing.stream] = missing.first
        self._first[missing.kind, missing.stream] = missing.first

    @property
    def expected(self) -> tuple[bytes | None, Mapping[tuple[str, str], int]]:
        """The run whose messages come, None if none has come yet, and the `seq` of the next messages by kind and stream."""
        return self._boot, self._next

    def resume_at(self, cursor: Cursor) -> None:
        """Expect what follows on a place that was reached otherwise."""
        self._resume = cursor
        self._boot = None

    def accept(self, message: Embedding | Event) -> int | None:
        """Note a message. Return how many before it are lost for good; None if it has come before."""
        self._note_boot(message.boot)
        key = (message.kind, message.stream)
        expected = self._next.get(key, 0 if self._from_the_start else message.seq)
        if message.seq < expected:
            return None
        self._first.setdefault(key, expected)
        self.heard_ns = max(self.heard_ns, start_ns(message) + 1)
        self._next[key] = message.seq + 1
        return message.seq - expected

    def give_up(self, missing: MissingRange) -> int:
        """Stop expecting the messages of a range. Return how many of them have not come."""
        if missing.boot != self._boot:
            return 0
        expected = self._next.get((missing.kind, missing.stream), missing.first)
        self._next[missing.kind, missing.stream] = max(expected, missing.end)
        return max(0, missing.end - expected)

    def _note_boot(self, boot: bytes) -> None:
        if boot != self._boot:
            self._from_the_start = self._boot is not None or self._resume is not None
            self._boot = boot
            self._uptime_ns = 0
            self.heard_ns = EARLIEST_NS
            self._next = dict((self._resume or {}).get(boot, {}))
            self._first = dict(self._next)


def start_ns(message: Embedding | Event) -> int:
    """Return when a window begins, or an event happened."""
    return message.time.start_ns if isinstance(message, Embedding) else message.time_ns
