"""The client library for a bus: what all daemons publish there, each message once, in order, with every loss counted.

    for embedding in mertd.subscribe("nats://bus.example:4222"):
        print(embedding.daemon, embedding.stream, embedding.vector.shape)

It has the interface of `mertd.Subscriber`. A jump in `seq` is a loss for good, because the relay waits with what is behind a
gap as long as there is hope. Anyone who may publish can put anything on the bus: what is no message of the wire, or stands
under another daemon's or stream's subject, is left out, counted in `refused` and logged. The servers may all be away: reading
goes on when one of them is back. A subscriber may not be used by several threads at once.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Iterable
from datetime import datetime, timedelta

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_cursor import BusCursor, BusPlaces
from mertd.bus.bus_decoder import BusDecoder
from mertd.bus.bus_progress import BusProgress
from mertd.bus.bus_stream import STREAM
from mertd.bus.nats_extra import check_nats_extra
from mertd.bus.reading_thread import ReadingThread
from mertd.bus.stream_consumer import Stored
from mertd.bus.stream_reader import Reading
from mertd.bus.subjects import pattern
from mertd.errors import SpaceError, UsageError
from mertd.stream.client.daemons import check_beginning, names, unix_ns
from mertd.stream.client.inbox import Received
from mertd.stream.client.message_source import MessageSource
from mertd.stream.client.place_file import SAVE_S
from mertd.stream.client.sequence import Cursor
from mertd.text import printable
from mertd.wire import Embedding, Event

KINDS = ("embedding", "event")
"""Kinds of messages that are on a bus. A status is a heartbeat, and old ones mean nothing."""

log = logging.getLogger(__name__)


class BusSubscriber(MessageSource):
    """Messages of some kinds and streams, of all daemons. `refused`: messages that are not the wire's."""

    def __init__(
        self,
        access: BusAccess,
        streams: str | Iterable[str] = (),
        kinds: str | Iterable[str] = ("embedding",),
        *,
        last: int = 0,
        newest: bool = False,
        resume: Cursor | None = None,
        since: datetime | timedelta | int | None = None,
        cursor: str | os.PathLike[str] | None = None,
        mix_spaces: bool = False,
        timeout: float | None = None,
        by_hand: bool = False,
        bus_stream: str = STREAM,
    ) -> None:
        """Begin to read. The arguments are those of `mertd.Subscriber`; `bus_stream` is the name of the JetStream stream.

        Raises `BusError` if the extra is missing, `UsageError` for arguments that contradict each other, and `StoreError` for a
        cursor that is damaged or in use.
        """
        check_nats_extra()
        chosen, wanted = names(kinds), names(streams)
        given = {"since": since is not None, "cursor": cursor is not None, "last": bool(last), "resume": resume is not None}
        check_beginning([], newest, **given)
        if unknown := set(chosen) - set(KINDS):
            raise UsageError(f"unknown kind {unknown.pop()!r}; a bus has {' and '.join(KINDS)}")
        since_ns = None if since is None else unix_ns(since)
        self._timeout = timeout
        self._process = os.getpid()
        self._newest = _Newest() if newest else None
        self._space = None if mix_spaces else _OneSpace()
        self._cursor = BusCursor(cursor, bus_stream, since_ns) if cursor is not None else None
        begun = self._cursor.found if self._cursor is not None else BusPlaces(None, {}, since_ns)
        self._progress = BusProgress(begun, resume)
        self._by_hand = by_hand
        self._last: Received | None = None
        self._counts = _Counts(str(access))
        self._decoder = BusDecoder()
        filters = dict.fromkeys(pattern(None, stream, kind) for stream in wanted or (None,) for kind in dict.fromkeys(chosen))
        everything = begun.since_ns if resume is None else 0
        self._thread = ReadingThread(Reading(access, bus_stream, tuple(filters), begun.place, everything, last))
        self._end = weakref.finalize(self, self._thread.stop)

    @property
    def lost(self) -> int:
        return self._counts.lost

    @property
    def recovered(self) -> int:
        """Always 0: the bus has no history apart from itself."""
        return 0

    @property
    def passed_over(self) -> int:
        return self._counts.passed_over

    @property
    def refused(self) -> int:
        """Messages on the bus that are not the wire's, and were left out."""
        return self._decoder.refused

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message, or None if none came within `timeout_s` (None: wait for ever).

        Raises `SpaceError` for a vector of another space; the next call continues after it. Raises `UsageError` after `close`,
        and in a process that was forked meanwhile.
        """
        self._begin_receiving()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while (found := self._take()) is None:
            if time.monotonic() >= deadline:
                return None
            self._thread.wait(min(deadline, self._save_if_due()))
        return found

    async def receive_async(self, timeout_s: float | None = None) -> Received | None:
        self._begin_receiving()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while (found := self._take()) is None:
            if time.monotonic() >= deadline:
                return None
            await self._thread.wait_async(min(deadline, self._save_if_due()))
        return found

    def acknowledge(self) -> None:
        self._note_done()
        if self._cursor is not None:
            self._cursor.note_change()
            self._cursor.save(self._progress.places)

    def done(self, messages: Iterable[Received]) -> None:
        for one in messages:
            is_new = isinstance(one.message, Embedding | Event) and self._progress.finish(one.message)
            if is_new and self._cursor is not None:
                self._cursor.note_change()

    def _note_done(self) -> None:
        """The message that was received last is done."""
        done, self._last = self._last, None
        if done is not None and not self._by_hand:
            self.done([done])

    def close(self) -> None:
        if os.getpid() != self._process or not self._end.alive:
            return
        self._end()
        kept, self._cursor = self._cursor, None
        if kept is not None:
            if self._progress.begin(self._thread.begun_at):
                kept.note_change()
            try:
                kept.save(self._progress.places)
            finally:
                kept.close()

    def _silence(self) -> str:
        return f"{self._counts.where}; does `mertd relay` run beside the daemons?"

    def _begin_receiving(self) -> None:
        if os.getpid() != self._process:
            raise UsageError("this subscriber was made before the process forked; subscribe again in the new process")
        if not self._end.alive:
            raise UsageError("this subscriber is closed; subscribe again")
        self._note_done()
        self._save_if_due()

    def _save_if_due(self) -> float:
        """Save the cursor unless that was done a moment ago. Return when to look again, in monotonic seconds."""
        if self._cursor is None:
            return float("inf")
        begun_at = self._thread.begun_at
        if begun_at is None and self._progress.places.place is None:
            return time.monotonic() + SAVE_S  # then it may be known
        if self._progress.begin(begun_at):
            self._cursor.note_change()
        if time.monotonic() >= self._cursor.due_at:
            self._cursor.save(self._progress.places)
        return self._cursor.due_at

    def _take(self) -> Received | None:
        """Return the next message that is to be delivered; None if none waits."""
        while (stored := self._thread.take()) is not None:
            if (received := self._received(stored)) is None:
                continue
            if self._newest is None:
                return received
            self.done([received])
            self._newest.add(received)
        return None if self._newest is None else self._newest.take(self._counts)

    def _received(self, stored: Stored) -> Received | None:
        """Return what is to be delivered; None if it is no message, has come before, or only announces a hole."""
        message = self._decoder.message(stored)
        if not isinstance(message, Embedding | Event):
            if message is not None:
                self._progress.note_hole(message)
            self._progress.pass_by(stored.place)
            return None
        lost = self._progress.accept(message, stored.place)
        if lost is None:
            return None
        told = lost if self._newest is None else 0
        self._counts.lose(told, message)
        self._last = Received(message, told, self._counts.where)
        if isinstance(message, Embedding) and self._space is not None:
            self._space.check(message)
        return self._last


class _OneSpace:
    """Vectors that may be compared with each other."""

    def __init__(self) -> None:
        self._space = ""

    def check(self, message: Embedding) -> None:
        """Raise `SpaceError` for a vector of another space than the first one."""
        self._space = self._space or message.model.space
        if message.model.space != self._space:
            raise SpaceError(
                f"{message.daemon}/{message.stream} has vectors of space {message.model.space}, others on the bus are of "
                f"{self._space}: they may not be compared; subscribe to streams of one of them, or pass mix_spaces=True"
            )


class _Newest:
    """Messages that wait, of the embeddings only each stream's newest."""

    def __init__(self) -> None:
        self._waiting: list[Received] = []

    def add(self, received: Received) -> None:
        self._waiting.append(received)

    def take(self, counts: _Counts) -> Received | None:
        """Return the next one; None if none waits."""
        newest = {_stream(r): r for r in self._waiting if isinstance(r.message, Embedding)}
        kept = [r for r in self._waiting if not isinstance(r.message, Embedding) or newest[_stream(r)] is r]
        counts.passed_over += len(self._waiting) - len(kept)
        self._waiting = kept[1:]
        return kept[0] if kept else None


class _Counts:
    """What was not delivered, and the log of it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lost = 0
        self.passed_over = 0

    def lose(self, lost: int, before: Embedding | Event) -> None:
        if lost:
            self.lost += lost
            what = printable(f"{before.kind} of {before.daemon}/{before.stream}", 300)
            log.warning("%d messages of kind %s are lost; the bus has none of them", lost, what)


def _stream(received: Received) -> tuple[str, str]:
    return (received.message.daemon, str(getattr(received.message, "stream", "")))
