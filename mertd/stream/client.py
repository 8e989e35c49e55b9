"""The client library: embeddings and events of one or more daemons, each once, in order, and nothing missing in silence.

    import mertd

    for embedding in mertd.subscribe():
        print(embedding.stream, embedding.time.start_ns, embedding.vector.shape)

A hole in `seq` is filled from the daemon's history, over its control socket; so is what was sent while a client slept or had no
connection. What the history no longer holds is counted in `lost` and logged. Needs pyzmq, msgpack and numpy, and loads nothing
else. Not safe for use by several threads at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import EndpointError, KeysError, SpaceError, UsageError, WireError
from mertd.stream.endpoint import harden
from mertd.stream.keys import ClientKeys
from mertd.stream.monitor import Refusals
from mertd.stream.request import PATIENCE_S, ask, ask_page
from mertd.stream.sequence import Gap, Sequence
from mertd.wire import MAX_BYTES, Embedding, Event, Message, Status, decode

BACK_OFF_S = 10.0
"""After a control socket that did not answer, so long nothing is asked of it."""

MAX_MESSAGE = MAX_BYTES + 4_096
"""Bytes of one frame, with what encryption adds; libzmq disconnects a daemon that sends more, and tries again later."""

REFUSED_S = 1.0
"""After a daemon that refused us, so long it is left alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Received:
    """One message, and how many of its kind and stream were lost for good just before it. `endpoint`: of the daemon."""

    message: Message
    lost: int
    endpoint: str = ""


class _Connection:
    """One daemon."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        control: str | None,
        topics: list[str],
        keys: ClientKeys | None,
    ) -> None:
        self.endpoint, self.control, self.keys = endpoint, control, keys
        self.sequence = Sequence()
        self.asks_again = 0.0  # monotonic seconds
        self.connects_again = float("inf")  # monotonic seconds
        self.socket = context.socket(zmq.SUB)
        harden(self.socket)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self.refusals = Refusals(context, self.socket, endpoint, keys is not None, keys is not None)
        for topic in topics:
            self.socket.subscribe(topic)
        try:
            if keys:
                keys.secure(self.socket)
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise EndpointError(f"{endpoint!r} is not an endpoint: {error}") from error
        except KeysError:
            self.close()
            raise

    def check(self) -> None:
        """Raises `EndpointError` if the daemon will not have us, which makes libzmq give up; a second later we try again."""
        now = time.monotonic()
        if now >= self.connects_again:
            self.connects_again = float("inf")
            with contextlib.suppress(zmq.ZMQError):  # libzmq has given it up itself
                self.socket.disconnect(self.endpoint)
            self.socket.connect(self.endpoint)
        try:
            self.refusals.check()
        except EndpointError:
            self.connects_again = now + REFUSED_S
            raise

    def close(self) -> None:
        self.socket.close(linger=0)
        self.refusals.close()


class Subscriber:
    """Messages of some kinds and streams. Iterate over it, with `for` or `async for`, or call `receive`.

    `lost`, `recovered`: messages that were missing for good, and those that came from a history. `passed_over`: those that
    `newest` left out.
    """

    def __init__(
        self,
        endpoint: str | Iterable[str] = PUBLISH_ENDPOINT,
        streams: Iterable[str] = (),
        kinds: Iterable[str] = ("embedding",),
        *,
        control: str | Iterable[str] | None = None,
        last: int = 0,
        newest: bool = False,
        mix_spaces: bool = False,
        timeout: float | None = None,
        keys: ClientKeys | Iterable[ClientKeys | None] | None = None,
    ) -> None:
        """`endpoint`: where one or more daemons publish; `control`: where each of them answers, in the same order; without,
        what is lost is counted but not fetched. By default the default daemon's both.

        `streams`: names; none for all. `kinds`: of "embedding", "event", "status". `last`: begin with so many messages of each
        kind and stream that were published before. `newest`: for viewers, of the embeddings that wait give each stream's newest
        and skip the others. `mix_spaces`: give vectors that may not be compared with each other, too. `timeout`: seconds
        without a message after which iterating raises `EndpointError`; None waits for ever. `keys`: for daemons that run with
        --curve, `ClientKeys.load(NAME)`, one for all or one for each; a daemon that is another one, or has no encryption, is
        then not talked to.

        Raises `EndpointError` for what is not an endpoint, or, if there is a past to ask for, for no answer or no such stream;
        `UsageError` for arguments that make no sense.
        """
        endpoints = [endpoint] if isinstance(endpoint, str) else list(endpoint)
        if control is None:
            controls: list[str | None] = [CONTROL_ENDPOINT if endpoints == [PUBLISH_ENDPOINT] else None] * len(endpoints)
        else:
            controls = [control] if isinstance(control, str) else list(control)
        self._streams, self._kinds = tuple(streams), tuple(kinds)
        each = [keys] * len(endpoints) if keys is None or isinstance(keys, ClientKeys) else list(keys)
        if len(controls) != len(endpoints) or len(set(endpoints)) != len(endpoints) or not endpoints:
            raise UsageError("wanted different endpoints, and a control endpoint for each of them or for none")
        if len(each) != len(endpoints):
            raise UsageError("wanted keys for each endpoint (None for one without), or the same for all")
        if last and None in controls:
            raise UsageError("the past is told by a control endpoint: control=... names it")
        if unknown := set(self._kinds) - {"embedding", "event", "status"}:
            raise UsageError(f"there is no kind {unknown.pop()!r}, only embedding, event and status")
        self._newest, self._mix_spaces, self._timeout = newest, mix_spaces, timeout
        self._space: str | None = None
        self._ready: deque[Received] = deque()
        self.lost = self.recovered = self.passed_over = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._connections: dict[zmq.Socket[bytes], _Connection] = {}
        try:
            for where, asks, own in zip(endpoints, controls, each, strict=True):
                connection = _Connection(self._context, where, asks, self._topics(asks), own)
                self._connections[connection.socket] = connection
                self._poller.register(connection.socket, zmq.POLLIN)
                self._poller.register(connection.refusals.socket, zmq.POLLIN)
            if last:
                self._begin(last)
        except BaseException:
            self.close()
            raise

    def _topics(self, control: str | None) -> list[str]:
        """A status tells what was sent, and so what was lost at the end: worth hearing if it can be fetched."""
        kinds = (*self._kinds, "status") if control and not self._newest else self._kinds
        topics: list[str] = []
        for kind in dict.fromkeys(kinds):
            named = self._streams and kind != "status"
            topics += [f"{kind}/{name}/" for name in self._streams] if named else [f"{kind}/"]
        return topics

    # What a program calls

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """The next message, or None if none came in time (None: wait for ever).

        Raises `WireError` for what is not wire version 1, `SpaceError` for a vector of another space, `EndpointError` if a
        daemon refuses us; the next call goes on behind it.
        """
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while not self._ready:
            left = min(deadline, self._check()) - time.monotonic()
            readable = self._poller.poll(None if left == float("inf") else max(0, math.ceil(left * 1000)))
            if not readable and time.monotonic() >= deadline:
                return None
            for connection in [self._connections[socket] for socket, _ in readable if socket in self._connections]:
                for message in self._read(connection):
                    _run(self._digest(connection, message), lambda gap, where=connection: self._fetch(where, gap))  # type: ignore[misc]
        return self._ready.popleft()

    async def receive_async(self, timeout_s: float | None = None) -> Received | None:
        """The same in an event loop, which it never blocks. One call at a time. Raises what `receive` raises."""
        import asyncio  # it costs 0.05 s, and `mertd tail` needs none of it

        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        watched = [connection.refusals.socket for connection in self._connections.values()]
        descriptors = [socket.fileno() for socket in [*self._connections, *watched]]
        for descriptor in descriptors:
            loop.add_reader(descriptor, readable.set)
        try:
            while not self._ready:
                readable.clear()
                again = self._check()
                some = [c for c in self._connections.values() if int(c.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN]
                for connection in some:
                    for message in self._read(connection):
                        steps = self._digest(connection, message)
                        gap = next(steps, None)
                        while gap is not None:
                            found = await asyncio.to_thread(self._fetch, connection, gap)
                            gap = _step(steps, found)
                if not some and not self._ready:
                    left = min(deadline, again) - time.monotonic()
                    try:
                        await asyncio.wait_for(readable.wait(), None if left == float("inf") else max(0.0, left))
                    except TimeoutError:
                        if time.monotonic() >= deadline:
                            return None
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
        return self._ready.popleft()

    def __iter__(self) -> Iterator[Message]:
        """Messages, for ever. What is lost is counted and logged."""
        while True:
            yield self._message(self.receive(self._timeout))

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield self._message(await self.receive_async(self._timeout))

    def _message(self, received: Received | None) -> Message:
        if received is None:
            names = ", ".join(connection.endpoint for connection in self._connections.values())
            raise EndpointError(f"nothing in {self._timeout:g} s from {names}; `mertd status` may say why")
        return received.message

    def close(self) -> None:
        """Disconnect. Nothing can be received after."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Within

    def _check(self) -> float:
        """Look for refusals. Gives when to look again, though nothing happens: monotonic seconds."""
        for connection in self._connections.values():
            connection.check()
        return min((connection.connects_again for connection in self._connections.values()), default=float("inf"))

    def _read(self, connection: _Connection) -> list[Message]:
        """One message, or all but the older embeddings of those that wait."""
        if not self._newest:
            return [decode(connection.socket.recv_multipart())]
        waiting: list[Message] = []
        while connection.socket.poll(0):
            waiting.append(decode(connection.socket.recv_multipart()))
        newest = {message.stream: message for message in waiting if isinstance(message, Embedding)}
        kept = [m for m in waiting if not isinstance(m, Embedding) or newest[m.stream] is m]
        self.passed_over += len(waiting) - len(kept)
        return kept

    def _digest(self, connection: _Connection, message: Message) -> Generator[Gap, list[Message], None]:
        """Make a message ready, after those that are missing before it: each `Gap` is answered with what was found of it."""
        sequence = connection.sequence
        if isinstance(message, Status):
            gaps = [] if self._newest else sequence.missing_by(message, self._kinds, self._streams)
        else:
            gap = sequence.missing(message)
            gaps = [gap] if gap and not self._newest else []
        for gap in gaps:
            for older in (yield gap):
                self.recovered += 1
                self._deliver(connection, older)
            if isinstance(message, Status) and (lost := sequence.give_up(gap)):
                self._count_lost(connection, lost, f"{gap.kind}/{gap.stream}")
        if not isinstance(message, Status) or "status" in self._kinds:
            self._deliver(connection, message)

    def _deliver(self, connection: _Connection, message: Message) -> None:
        lost = 0
        if isinstance(message, Embedding | Event):
            accepted = connection.sequence.accept(message)
            if accepted is None:
                return
            lost = 0 if self._newest else accepted
            self._count_lost(connection, lost, f"{message.kind}/{message.stream}")
        if isinstance(message, Embedding) and not self._mix_spaces:
            self._space = self._space or message.model.space
            if message.model.space != self._space:
                raise SpaceError(
                    f"{message.stream} at {connection.endpoint} has vectors of space {message.model.space}, others are of "
                    f"{self._space}: they may not be compared; subscribe to one of them, or say mix_spaces=True"
                )
        self._ready.append(Received(message, lost, connection.endpoint))

    def _count_lost(self, connection: _Connection, lost: int, what: str) -> None:
        if lost:
            self.lost += lost
            log.warning("%d messages of %s from %s are lost", lost, what, connection.endpoint)

    def _fetch(self, connection: _Connection, gap: Gap) -> list[Message]:
        """What the daemon's history still holds of a gap, oldest first."""
        found: list[Message] = []
        if connection.control is None or time.monotonic() < connection.asks_again:
            return found
        first, more = gap.first, True
        while more and first < gap.end:
            request = {"request": "history", "kind": gap.kind, "stream": gap.stream, "boot": gap.boot, "first": first}
            try:
                page = ask_page(connection.control, {**request, "end": gap.end}, PATIENCE_S, connection.keys)
            except (EndpointError, WireError) as error:
                log.warning("%d messages of %s/%s cannot be fetched: %s", gap.end - first, gap.kind, gap.stream, error)
                connection.asks_again = time.monotonic() + BACK_OFF_S
                break
            fresh = [m for m in page.messages if gap.has(m) and isinstance(m, Embedding | Event) and m.seq >= first]
            found += fresh
            more, first = page.more and bool(fresh), fresh[-1].seq + 1 if fresh else first
        return found

    def _begin(self, last: int) -> None:
        """Make the past ready."""
        for connection in self._connections.values():
            assert connection.control is not None
            (status,) = ask(connection.control, {"request": "status"}, PATIENCE_S, connection.keys)
            if not isinstance(status, Status):
                raise WireError(f"{connection.control} answers with {status.kind}, not a status")
            if unknown := set(self._streams) - set(status.streams):
                names = ", ".join(status.streams)
                raise EndpointError(f"{connection.control} has no stream {unknown.pop()!r}, only {names}")
            past: list[Message] = []
            for stream, counters in status.streams.items():
                for kind, counter in (("embedding", "embedded"), ("event", "events")):
                    if kind in self._kinds and (not self._streams or stream in self._streams):
                        end = int(counters[counter])
                        gap = Gap(status.boot, kind, stream, max(0, end - last), end)
                        found = self._fetch(connection, gap)
                        first = found[0].seq if found and isinstance(found[0], Embedding | Event) else end
                        connection.sequence.begin(Gap(status.boot, kind, stream, first, end))
                        past += found
            past.sort(key=_when)
            for message in past:
                self._deliver(connection, message)


def _when(message: Message) -> int:
    return message.time.end_ns if isinstance(message, Embedding) else message.time_ns


def _run(steps: Generator[Gap, list[Message], None], fetch: Callable[[Gap], list[Message]]) -> None:
    gap = next(steps, None)
    while gap is not None:
        gap = _step(steps, fetch(gap))


def _step(steps: Generator[Gap, list[Message], None], found: list[Message]) -> Gap | None:
    try:
        return steps.send(found)
    except StopIteration:
        return None


subscribe = Subscriber
"""`mertd.subscribe(...)`."""
