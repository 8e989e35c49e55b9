"""What was published lately, for those who come late or have missed something.

Rules of this file: no socket, no clock. It is bounded in bytes, whatever the messages are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from mertd.wire import Embedding, Event

LIMIT_BYTES = 8 << 20
"""Of messages of all streams: at a hop of 5 s nearly three hours of one layer of one stream, a quarter of an hour of all 13."""

STREAM_BYTES = 128 << 10
"""Of each stream, if there are so many that this is more: three minutes of one layer at a hop of 5 s."""

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


class _Kept(NamedTuple):
    """A message as the garbage collector likes it: nothing in it refers to anything else."""

    seq: int
    start_ns: int  # of a window, or the time of an event
    when_ns: int  # the end of a window, or the time of an event
    topic: bytes
    payload: bytes
    size: int  # bytes


@dataclass
class _Queue:
    """The messages of one kind and stream, oldest first, and the sum of their sizes."""

    kept: deque[_Kept] = field(default_factory=deque)
    size: int = 0


class History:
    """The last messages of each kind and stream."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """`limit_bytes`: what all messages together may take."""
        self._limit = limit_bytes
        self._queues: dict[tuple[str, str], _Queue] = {}
        self.bytes = 0

    def make_room(self, streams: int) -> None:
        """Let it keep more if it serves very many streams: a client that was away a short time must find what it missed."""
        self._limit = max(self._limit, streams * STREAM_BYTES)

    def __len__(self) -> int:
        return sum(len(queue.kept) for queue in self._queues.values())

    def add(self, message: Embedding | Event, frames: list[bytes]) -> None:
        """Keep a message, and forget the oldest ones of whichever kind and stream has most, if there is no room."""
        if isinstance(message, Embedding):
            start_ns, when_ns = message.time.start_ns, message.time.end_ns
        else:
            start_ns = when_ns = message.time_ns
        topic, payload = frames
        size = len(topic) + len(payload) + OVERHEAD
        key = (message.kind, message.stream)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        queue.kept.append(_Kept(message.seq, start_ns, when_ns, topic, payload, size))
        queue.size += size
        self.bytes += size
        while self.bytes > self._limit:
            largest = max(self._queues.values(), key=attrgetter("size"))
            forgotten = largest.kept.popleft().size
            largest.size -= forgotten
            self.bytes -= forgotten

    def last(self, kind: str, stream: str, count: int) -> Page:
        """The newest `count` messages of a kind. `stream`: empty for all streams, which are then sorted by time.

        If they are too many for a page, it holds the newest of them.
        """
        queues = [queue.kept for key, queue in self._queues.items() if key[0] == kind and stream in ("", key[1])]
        wanted = min(count, PAGE_MESSAGES)
        found = [kept for queue in queues for kept in islice(reversed(queue), max(wanted, 0))]
        found.sort(key=attrgetter("when_ns"))
        total = sum(map(len, queues))
        page = list(_page(reversed(found[-wanted:] if wanted > 0 else [])))[::-1]
        return Page([_replayed(kept) for kept in page], len(page) < min(max(count, 0), total))

    def oldest(self, kind: str, stream: str) -> int | None:
        """Return the `seq` of the oldest message of a kind and stream that is kept; None if there is none."""
        queue = self._of(kind, stream)
        return queue[0].seq if queue else None

    def since(self, kind: str, stream: str, since_ns: int) -> Page:
        """Messages from the first one on that is of this time or later, as far as they are kept and go on a page."""
        found = (kept.seq for kept in self._of(kind, stream) if kept.start_ns >= since_ns)
        first = next(found, None)
        return Page([], False) if first is None else self.between(kind, stream, first, None)

    def between(self, kind: str, stream: str, first: int, end: int | None) -> Page:
        """Messages with first <= `seq` < end (None: up to the newest), as far as they are kept and go on a page."""
        queue = self._of(kind, stream)
        if not queue:
            return Page([], False)
        skip = max(0, first - queue[0].seq)  # they are numbered without holes
        wanted = len(queue) if end is None else max(0, end - queue[0].seq)
        found = list(islice(queue, skip, min(wanted, skip + PAGE_MESSAGES)))
        page = list(_page(iter(found)))
        return Page([_replayed(kept) for kept in page], skip + len(page) < min(wanted, len(queue)))

    def _of(self, kind: str, stream: str) -> deque[_Kept]:
        queue = self._queues.get((kind, stream))
        return deque() if queue is None else queue.kept


def _page(kept: Iterator[_Kept]) -> Iterator[_Kept]:
    size = 0
    for one in kept:
        size += one.size
        if size > PAGE_BYTES:
            return
        yield one


def _replayed(kept: _Kept) -> list[bytes]:
    """`replay` is the last field of both kinds, and a boolean is one byte: 256 messages in 0.1 ms in place of 8."""
    return [kept.topic, kept.payload[:-1] + b"\xc3"]
