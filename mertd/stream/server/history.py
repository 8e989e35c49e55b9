"""What was published lately, for those who come late or have missed something.

Rules of this file: no socket, no clock. It is bounded in bytes, whatever the messages are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from mertd.wire import Embedding, Event

LIMIT_BYTES = 8 << 20
"""Of messages of all streams: at a hop of 5 s nearly three hours of one layer of one stream, a quarter of an hour of all 13."""

OVERHEAD = 400
"""Bytes that Python needs for a kept message besides its payload: measured as growth of the process per event, rounded up."""

PAGE_MESSAGES = 256
"""Messages that one page holds at most."""

PAGE_BYTES = 1 << 20
"""Bytes that one page holds at most, so that building it keeps the daemon from its work for a few milliseconds only."""


@dataclass(frozen=True)
class Page:
    """Messages in frames, oldest first, marked as replayed; `more`: there were too many for one page."""

    messages: list[list[bytes]]
    more: bool


@dataclass(frozen=True)
class _Kept:
    seq: int
    start_ns: int  # of a window, or the time of an event
    when_ns: int  # the end of a window, or the time of an event
    frames: list[bytes]

    @property
    def size(self) -> int:
        return len(self.frames[0]) + len(self.frames[1]) + OVERHEAD


class History:
    """The last messages of each kind and stream."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """`limit_bytes`: what all messages together may take."""
        self._limit, self._kept = limit_bytes, dict[tuple[str, str], deque[_Kept]]()
        self._sizes: dict[tuple[str, str], int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def add(self, message: Embedding | Event, frames: list[bytes]) -> None:
        """Keep a message, and forget the oldest ones of whichever kind and stream has most, if there is no room."""
        key = (message.kind, message.stream)
        if isinstance(message, Embedding):
            start_ns, when_ns = message.time.start_ns, message.time.end_ns
        else:
            start_ns = when_ns = message.time_ns
        kept = _Kept(message.seq, start_ns, when_ns, frames)
        self._kept.setdefault(key, deque()).append(kept)
        self._sizes[key] = self._sizes.get(key, 0) + kept.size
        self.bytes += kept.size
        while self.bytes > self._limit:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            size = self._kept[largest].popleft().size
            self._sizes[largest] -= size
            self.bytes -= size

    def last(self, kind: str, stream: str, count: int) -> Page:
        """The newest `count` messages of a kind. `stream`: empty for all streams, which are then sorted by time.

        If they are too many for a page, it holds the newest of them.
        """
        keys = [key for key in self._kept if key[0] == kind and stream in ("", key[1])]
        wanted = min(count, PAGE_MESSAGES)
        found = [kept for key in keys for kept in islice(reversed(self._kept[key]), max(wanted, 0))]
        found.sort(key=attrgetter("when_ns"))
        total = sum(len(self._kept[key]) for key in keys)
        page = list(_page(reversed(found[-wanted:] if wanted > 0 else [])))[::-1]
        return Page([_replayed(kept) for kept in page], len(page) < min(max(count, 0), total))

    def oldest(self, kind: str, stream: str) -> int | None:
        """Return the `seq` of the oldest message of a kind and stream that is kept; None if there is none."""
        queue = self._kept.get((kind, stream))
        return queue[0].seq if queue else None

    def since(self, kind: str, stream: str, since_ns: int) -> Page:
        """Messages from the first one on that is of this time or later, as far as they are kept and go on a page."""
        found = (kept.seq for kept in self._kept.get((kind, stream), ()) if kept.start_ns >= since_ns)
        first = next(found, None)
        return Page([], False) if first is None else self.between(kind, stream, first, None)

    def between(self, kind: str, stream: str, first: int, end: int | None) -> Page:
        """Messages with first <= `seq` < end (None: up to the newest), as far as they are kept and go on a page."""
        queue = self._kept.get((kind, stream), deque())
        if not queue:
            return Page([], False)
        skip = max(0, first - queue[0].seq)  # they are numbered without holes
        wanted = len(queue) if end is None else max(0, end - queue[0].seq)
        found = list(islice(queue, skip, min(wanted, skip + PAGE_MESSAGES)))
        page = list(_page(iter(found)))
        return Page([_replayed(kept) for kept in page], skip + len(page) < min(wanted, len(queue)))


def _page(kept: Iterator[_Kept]) -> Iterator[_Kept]:
    size = 0
    for one in kept:
        size += one.size
        if size > PAGE_BYTES:
            return
        yield one


def _replayed(kept: _Kept) -> list[bytes]:
    """`replay` is the last field of both kinds, and a boolean is one byte: 256 messages in 0.1 ms in place of 8."""
    topic, payload = kept.frames
    return [topic, payload[:-1] + b"\xc3"]
