"""Which messages of a daemon have come, and which are missing.

Rules of this file: no socket, no clock. `seq` counts per (boot, kind, stream) without holes, and one endpoint has one daemon
at a time, so all that a connection has missed can be named.
"""

from __future__ import annotations

from dataclasses import dataclass

from mertd.wire import Embedding, Event, Message, Status

COUNTERS = {"embedding": "embedded", "event": "events"}
"""Where a status tells how many messages of a kind a stream has sent: the next one's `seq`."""


@dataclass(frozen=True)
class Gap:
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
        """Whether a message belongs here."""
        if not isinstance(message, Embedding | Event):
            return False
        same = (message.boot, message.kind, message.stream) == (self.boot, self.kind, self.stream)
        return same and self.first <= message.seq < self.end


class Sequence:
    """One connection's messages."""

    def __init__(self) -> None:
        self._boot: bytes | None = None
        self._next: dict[tuple[str, str], int] = {}
        self._since_start = False

    def missing(self, message: Embedding | Event) -> Gap | None:
        """What should have come before this one. Of a daemon that was started while we listened, that is everything."""
        self._meet(message.boot)
        first = self._next.get((message.kind, message.stream), 0 if self._since_start else message.seq)
        return Gap(message.boot, message.kind, message.stream, first, message.seq) if first < message.seq else None

    def missing_by(self, status: Status, kinds: tuple[str, ...], streams: tuple[str, ...]) -> list[Gap]:
        """What the daemon had sent before this status and has not come, of those `kinds` and `streams` (none: all)."""
        self._meet(status.boot)
        gaps: list[Gap] = []
        for stream, counters in status.streams.items():
            for kind in kinds:
                end = counters.get(COUNTERS.get(kind, "")) if isinstance(counters, dict) else None
                if not isinstance(end, int) or (streams and stream not in streams):
                    continue
                first = self._next.get((kind, stream), 0 if self._since_start else end)
                self._next.setdefault((kind, stream), first)
                if first < end:
                    gaps.append(Gap(status.boot, kind, stream, first, end))
        return gaps

    def begin(self, gap: Gap) -> None:
        """Want the messages of a gap, too, and all after it."""
        self._meet(gap.boot)
        self._next[gap.kind, gap.stream] = gap.first

    def accept(self, message: Embedding | Event) -> int | None:
        """Messages lost for good before this one; None if it has come before."""
        self._meet(message.boot)
        key = (message.kind, message.stream)
        expected = self._next.get(key, 0 if self._since_start else message.seq)
        if message.seq < expected:
            return None
        self._next[key] = message.seq + 1
        return message.seq - expected

    def give_up(self, gap: Gap) -> int:
        """Messages of a gap that have not come, and are not waited for any longer."""
        if gap.boot != self._boot:
            return 0
        expected = self._next.get((gap.kind, gap.stream), gap.first)
        self._next[gap.kind, gap.stream] = max(expected, gap.end)
        return max(0, gap.end - expected)

    def _meet(self, boot: bytes) -> None:
        if boot != self._boot:
            self._since_start = self._boot is not None
            self._boot = boot
            self._next.clear()
