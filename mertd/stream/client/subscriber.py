"""The client library: embeddings and events of one or more daemons, each once, in order, with every loss made good or counted.

    import mertd

    for embedding in mertd.subscribe():
        print(embedding.stream, embedding.time.start_ns, embedding.vector.shape)

A hole in `seq` is filled from the daemon's history, over its control socket; so is what was sent while the client slept or had
no connection. What the history no longer holds is counted in `lost` and logged. The library needs pyzmq, msgpack and numpy, and
loads nothing else. A subscriber may not be used by several threads at once.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import zmq

from mertd.defaults import PUBLISH_ENDPOINT
from mertd.errors import UsageError
from mertd.stream.client.backlog import Backlog
from mertd.stream.client.cursor_file import CursorFile
from mertd.stream.client.daemons import KINDS, check_beginning, names, pair_up, unix_ns
from mertd.stream.client.inbox import Inbox, Received, Selection
from mertd.stream.client.link import Link, Reading
from mertd.stream.client.message_source import MessageSource
from mertd.stream.client.past import Past
from mertd.stream.client.sequence import Cursor
from mertd.stream.curve_keys import ClientKeys
from mertd.wire import Embedding, Event, Message, decode


class Subscriber(MessageSource):
    """Messages of some kinds and streams. Iterate over it, with `for` or `async for`, or call `receive`.

    `lost`: messages that are missing for good. `recovered`: messages that came from a history. `passed_over`: embeddings that
    `newest` left out.
    """

    def __init__(
        self,
        endpoint: str | Iterable[str] = PUBLISH_ENDPOINT,
        streams: str | Iterable[str] = (),
        kinds: str | Iterable[str] = ("embedding",),
        *,
        control: str | Iterable[str] | None = None,
        last: int = 0,
        newest: bool = False,
        resume: Cursor | None = None,
        since: datetime | timedelta | int | None = None,
        cursor: str | os.PathLike[str] | None = None,
        mix_spaces: bool = False,
        timeout: float | None = None,
        by_hand: bool = False,
        decoder: Callable[[list[bytes]], Message] = decode,
        keys: ClientKeys | Iterable[ClientKeys | None] | None = None,
    ) -> None:
        """Connect.

        `endpoint`: where one or more daemons publish. `control`: where each of them answers, in the same order; without it,
        losses are counted but not made good. By default both are the default daemon's.
        `streams`: a name, or several; none for all. `kinds`: of "embedding", "event" and "status", one or several.
        `last`: begin with this many messages of each kind and stream that were published before.
        `resume`: the `seq` of the next message by boot and (kind, stream); begin there, and with what was published since then
        by a run of the daemon that is not in it. `{}` begins with all that the history holds.
        `since`: begin with what the daemon has since then, in its memory or its history, over all its runs: a `datetime`, a
        `timedelta` (this long ago), or Unix nanoseconds. Windows count by their start.
        `cursor`: a file that keeps the place of this client. It continues there, over all runs of the daemon, and begins with
        `since`, or with what comes, if there is no such file. A message counts as done when the next one is asked for, or with
        `acknowledge`: after a crash each comes at least once. One process at a time may use a file.
        `by_hand`: with `cursor`, a message counts as done only when it is given to `done`.
        `decoder`: makes a message of its two frames; raises `WireError`.
        `newest`: for viewers; of the embeddings that wait, deliver each stream's newest and skip the others.
        `mix_spaces`: also deliver vectors that may not be compared with each other.
        `timeout`: seconds without a message after which iterating raises `EndpointError`; None waits for ever.
        `keys`: for daemons started with --curve, `ClientKeys.load(NAME)`, one for all or one for each. Nothing is said to a
        daemon that has another key or no encryption.

        Raises `EndpointError` for an invalid endpoint and, with `last`, if there is no reply or no such stream; `UsageError`
        for arguments that contradict each other; `StoreError` for a cursor that is damaged or in use.
        """
        daemons = pair_up(endpoint, control, keys)
        selection = Selection(names(streams), names(kinds), newest, mix_spaces)
        given = {"since": since is not None, "cursor": cursor is not None, "last": bool(last), "resume": resume is not None}
        check_beginning(daemons, newest, **given)
        since_ns = None if since is None else unix_ns(since)
        if unknown := set(selection.kinds) - set(KINDS):
            raise UsageError(f"unknown kind {unknown.pop()!r}; choose from {', '.join(KINDS)}")
        self._selection = selection
        self._timeout = timeout
        self._process = os.getpid()
        self._cursor = CursorFile(cursor, since_ns) if cursor is not None else None
        self._decode = decoder
        self._by_hand = by_hand
        self._inbox = Inbox(selection)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._links: dict[zmq.Socket[bytes], Link] = {}
        self._last: Received | None = None
        self._backlog = Backlog(self._inbox, selection, self._cursor)
        try:
            for daemon in daemons:
                past = None if since is None else Past({}, since_ns)
                if self._cursor is not None:
                    past = self._cursor.past(daemon.endpoint)
                link = Link(self._context, daemon, selection.topics(daemon.control is not None), resume, past, Reading(decoder))
                self._links[link.socket] = link
                self._poller.register(link.socket, zmq.POLLIN)
                self._poller.register(link.refusals.socket, zmq.POLLIN)
            for link in self._links.values() if last else ():
                for message in link.fetch_last(last, selection.kinds, selection.streams):
                    self._inbox.deliver(message, link.sequence, link.daemon.endpoint)
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> int:
        return self._inbox.lost

    @property
    def recovered(self) -> int:
        return self._inbox.recovered

    @property
    def passed_over(self) -> int:
        return self._inbox.passed_over

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message, or None if none came within `timeout_s` (None: wait for ever).

        Raises `WireError` for what is not wire version 1, `SpaceError` for a vector of another space, `EndpointError` if a
        daemon refuses this client; the next call continues after it. Raises `UsageError` after `close`, and in a process that
        was forked meanwhile: ZeroMQ sockets do not survive a fork.
        """
        self._begin_receiving()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while not self._inbox:
            if self._backlog:
                if (asked := self._backlog.next_asked()) is not None:
                    is_found = self._backlog.give(asked[0].find(asked[1]))
                    if not is_found and time.monotonic() >= deadline:
                        return None
                continue
            left = min(deadline, self._check()) - time.monotonic()
            readable = self._poller.poll(None if left == float("inf") else max(0, math.ceil(left * 1000)))
            if not readable and time.monotonic() >= deadline:
                return None
            for link in [self._links[socket] for socket, _ in readable if socket in self._links]:
                self._read(link)
        return self._take()

    async def receive_async(self, timeout_s: float | None = None) -> Received | None:
        """Do the same in an event loop, without blocking it. One call at a time. Raises what `receive` raises."""
        import asyncio  # it costs 0.05 s, and `mertd tail` needs none of it

        self._begin_receiving()
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        watched = [link.refusals.socket for link in self._links.values()]
        descriptors = [socket.fileno() for socket in [*self._links, *watched]]
        for descriptor in descriptors:
            loop.add_reader(descriptor, readable.set)
        try:
            while not self._inbox:
                if self._backlog:
                    if (asked := self._backlog.next_asked()) is not None:
                        is_found = self._backlog.give(await asyncio.to_thread(asked[0].find, asked[1]))
                        if not is_found and time.monotonic() >= deadline:
                            return None
                    continue
                readable.clear()
                again = self._check()
                some = [link for link in self._links.values() if int(link.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN]
                for link in some:
                    self._read(link)
                if not some and not self._inbox:
                    left = min(deadline, again) - time.monotonic()
                    try:
                        async with asyncio.timeout(None if left == float("inf") else max(0.0, left)):
                            await readable.wait()
                    except TimeoutError:
                        if time.monotonic() >= deadline:
                            return None
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
        return self._take()

    def _silence(self) -> str:
        return f"{', '.join(link.daemon.endpoint for link in self._links.values())}; `mertd status` may say why"

    def acknowledge(self) -> None:
        """Count the message that was received last as done, and save the cursor now. Raises `StoreError`."""
        self._note_done()
        if self._cursor is not None:
            self._cursor.save()

    def done(self, messages: Iterable[Received]) -> None:
        """Count these as done; the cursor is saved within `SAVE_S`. For subscribers that were made with `by_hand`.

        The messages of each kind and stream are given in the order in which they came.
        """
        for one in messages:
            if self._cursor is not None and isinstance(one.message, Embedding | Event):
                self._cursor.done(one.endpoint, one.message)

    def close(self) -> None:
        """Disconnect, and save the cursor. Nothing can be received afterwards. Raises `StoreError`."""
        if os.getpid() != self._process:  # the sockets belong to the process that made them
            return
        kept, self._cursor = self._cursor, None
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._context.term()
        if kept is not None:
            kept.close()

    def _begin_receiving(self) -> None:
        """The message that was received last is done."""
        self._check_usable()
        self._note_done()
        if self._cursor is not None:
            self._cursor.save_if_due()

    def _note_done(self) -> None:
        done, self._last = self._last, None
        if done is not None and not self._by_hand:
            self.done([done])

    def _take(self) -> Received:
        self._last = self._inbox.take()
        return self._last

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise UsageError("this subscriber was made before the process forked; subscribe again in the new process")
        if not self._links:
            raise UsageError("this subscriber is closed; subscribe again")

    def _check(self) -> float:
        """Look for refusals. Return when to look again even if nothing happens: monotonic seconds."""
        for link in self._links.values():
            link.check()
        if self._cursor is not None:
            self._cursor.save_if_due()
        times = [time for link in self._links.values() for time in (link.reconnects_at, link.complains_at)]
        return min([*times, self._backlog.ready_at, self._cursor.due_at if self._cursor is not None else float("inf")])

    def _read(self, link: Link) -> None:
        """Read one message, or all that wait but for the older embeddings."""
        link.note_message()
        if not self._selection.newest:
            self._backlog.add(self._decode(link.socket.recv_multipart()), link)
            return
        waiting: list[Message] = []
        while link.socket.poll(0):
            waiting.append(self._decode(link.socket.recv_multipart()))
        for message in self._inbox.select(waiting):
            self._backlog.add(message, link)
