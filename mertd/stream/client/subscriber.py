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
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import EndpointError, UsageError
from mertd.stream.client.inbox import Inbox, Received, Selection, Steps
from mertd.stream.client.link import Daemon, Link
from mertd.stream.client.sequence import Cursor, Found, MissingRange
from mertd.stream.curve_keys import ClientKeys
from mertd.wire import Message, decode

KINDS = ("embedding", "event", "status")


@dataclass
class _CatchingUp:
    """A message that waits for those before it. `missing`: what is to be fetched next."""

    steps: Steps
    link: Link
    missing: MissingRange | None = None


class Subscriber:
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
        mix_spaces: bool = False,
        timeout: float | None = None,
        keys: ClientKeys | Iterable[ClientKeys | None] | None = None,
    ) -> None:
        """Connect.

        `endpoint`: where one or more daemons publish. `control`: where each of them answers, in the same order; without it,
        losses are counted but not made good. By default both are the default daemon's.
        `streams`: a name, or several; none for all. `kinds`: of "embedding", "event" and "status", one or several.
        `last`: begin with this many messages of each kind and stream that were published before.
        `resume`: the `seq` of the next message by boot and (kind, stream); begin there, and with what was published since then
        by a run of the daemon that is not in it. `{}` begins with all that the history holds.
        `newest`: for viewers; of the embeddings that wait, deliver each stream's newest and skip the others.
        `mix_spaces`: also deliver vectors that may not be compared with each other.
        `timeout`: seconds without a message after which iterating raises `EndpointError`; None waits for ever.
        `keys`: for daemons started with --curve, `ClientKeys.load(NAME)`, one for all or one for each. Nothing is said to a
        daemon that has another key or no encryption.

        Raises `EndpointError` for an invalid endpoint and, with `last`, if there is no reply or no such stream; `UsageError`
        for arguments that contradict each other.
        """
        daemons = _pair_up(endpoint, control, keys)
        selection = Selection(_names(streams), _names(kinds), newest, mix_spaces)
        if last and any(daemon.control is None for daemon in daemons):
            raise UsageError("`last` needs a control endpoint to read history from; pass control=...")
        if resume is not None and last:
            raise UsageError("`last` and `resume` cannot be combined; pass one of them")
        if unknown := set(selection.kinds) - set(KINDS):
            raise UsageError(f"unknown kind {unknown.pop()!r}; choose from {', '.join(KINDS)}")
        self._newest = newest
        self._timeout = timeout
        self._process = os.getpid()
        self._inbox = Inbox(selection)
        self._pending: deque[_CatchingUp] = deque()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._links: dict[zmq.Socket[bytes], Link] = {}
        try:
            for daemon in daemons:
                link = Link(self._context, daemon, selection.topics(daemon.control is not None), resume)
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
        self._check_usable()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while not self._inbox:
            if self._pending:
                catching_up = self._pending[0]
                if (missing := self._next_missing(catching_up)) is not None:
                    self._give(catching_up, catching_up.link.fetch(missing))
                continue
            left = min(deadline, self._check()) - time.monotonic()
            readable = self._poller.poll(None if left == float("inf") else max(0, math.ceil(left * 1000)))
            if not readable and time.monotonic() >= deadline:
                return None
            for link in [self._links[socket] for socket, _ in readable if socket in self._links]:
                self._accept(link)
        return self._inbox.take()

    async def receive_async(self, timeout_s: float | None = None) -> Received | None:
        """Do the same in an event loop, without blocking it. One call at a time. Raises what `receive` raises."""
        import asyncio  # it costs 0.05 s, and `mertd tail` needs none of it

        self._check_usable()
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        watched = [link.refusals.socket for link in self._links.values()]
        descriptors = [socket.fileno() for socket in [*self._links, *watched]]
        for descriptor in descriptors:
            loop.add_reader(descriptor, readable.set)
        try:
            while not self._inbox:
                if self._pending:
                    catching_up = self._pending[0]
                    if (missing := self._next_missing(catching_up)) is not None:
                        self._give(catching_up, await asyncio.to_thread(catching_up.link.fetch, missing))
                    continue
                readable.clear()
                again = self._check()
                some = [link for link in self._links.values() if int(link.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN]
                for link in some:
                    self._accept(link)
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
        return self._inbox.take()

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever. What is lost is counted and logged."""
        while True:
            yield self._message(self.receive(self._timeout))

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield self._message(await self.receive_async(self._timeout))

    def _message(self, received: Received | None) -> Message:
        if received is None:
            names = ", ".join(link.daemon.endpoint for link in self._links.values())
            raise EndpointError(f"nothing in {self._timeout:g} s from {names}; `mertd status` may say why")
        return received.message

    def close(self) -> None:
        """Disconnect. Nothing can be received afterwards."""
        if os.getpid() != self._process:  # the sockets belong to the process that made them
            return
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._context.term()

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise UsageError("this subscriber was made before the process forked; subscribe again in the new process")
        if not self._links:
            raise UsageError("this subscriber is closed; subscribe again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _check(self) -> float:
        """Look for refusals. Return when to look again even if nothing happens: monotonic seconds."""
        for link in self._links.values():
            link.check()
        return min((min(link.reconnects_at, link.complains_at) for link in self._links.values()), default=float("inf"))

    def _accept(self, link: Link) -> None:
        """Read what waits. Its messages are delivered one after the other, each after a page at a time of what is missing."""
        for message in self._read(link):
            steps = self._inbox.accept(message, link.sequence, link.daemon.endpoint)
            self._pending.append(_CatchingUp(steps, link))

    def _next_missing(self, catching_up: _CatchingUp) -> MissingRange | None:
        """Return what to fetch; None if the message is delivered, and the next one's turn has come."""
        if catching_up.missing is None:
            try:
                catching_up.missing = next(catching_up.steps, None)
            except BaseException:
                self._pending.popleft()
                raise
            if catching_up.missing is None:
                self._pending.popleft()
        return catching_up.missing

    def _give(self, catching_up: _CatchingUp, found: Found) -> None:
        """Deliver what was fetched."""
        try:
            catching_up.missing = catching_up.steps.send(found)
        except StopIteration:
            self._pending.popleft()
        except BaseException:
            self._pending.popleft()
            raise

    def _read(self, link: Link) -> list[Message]:
        """Return one message, or all that wait but for the older embeddings."""
        link.note_message()
        if not self._newest:
            return [decode(link.socket.recv_multipart())]
        waiting: list[Message] = []
        while link.socket.poll(0):
            waiting.append(decode(link.socket.recv_multipart()))
        return self._inbox.select(waiting)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return names that were given as one or as several."""
    return (given,) if isinstance(given, str) else tuple(given)


def _pair_up(
    endpoint: str | Iterable[str],
    control: str | Iterable[str] | None,
    keys: ClientKeys | Iterable[ClientKeys | None] | None,
) -> list[Daemon]:
    """Return the daemons that the arguments of `Subscriber` name. Raises `UsageError`."""
    endpoints = [endpoint] if isinstance(endpoint, str) else list(endpoint)
    if control is None:
        controls: list[str | None] = [CONTROL_ENDPOINT if endpoints == [PUBLISH_ENDPOINT] else None] * len(endpoints)
    else:
        controls = [control] if isinstance(control, str) else list(control)
    all_keys = [keys] * len(endpoints) if keys is None or isinstance(keys, ClientKeys) else list(keys)
    if not endpoints or len(set(endpoints)) != len(endpoints):
        raise UsageError(f"endpoints must be different, and at least one: {', '.join(endpoints) or 'none was given'}")
    if len(controls) != len(endpoints):
        raise UsageError(f"{len(endpoints)} endpoints but {len(controls)} control endpoints; pass one for each, or none at all")
    if len(all_keys) != len(endpoints):
        raise UsageError(
            f"{len(endpoints)} endpoints but {len(all_keys)} keys; pass one for each (None for no key), or one for all"
        )
    return [Daemon(*one) for one in zip(endpoints, controls, all_keys, strict=True)]


subscribe = Subscriber
"""`mertd.subscribe(...)`."""
