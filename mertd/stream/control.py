"""The daemon's control socket: one msgpack map each way, over ROUTER. docs/protocol.md describes requests and replies.

No client can keep it from the others. Requests together take a bounded share of the event loop; each client (with CURVE, each
key) has an allowance; pages of history are built one at a time, and clients take turns for them; what clients send, or leave
unread, is bounded in bytes by `mertd.stream.connections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any

import zmq

from mertd.errors import MertdError, WireError
from mertd.stream.allowance import Allowance, Bucket, Rate
from mertd.stream.connections import Connection, Connections
from mertd.stream.endpoint import Bound
from mertd.stream.envelope import MAX_REQUEST, Identifier, address_of, pack_reply, parse_request
from mertd.stream.history import Page
from mertd.stream.readiness import Readiness
from mertd.stream.turns import Turns
from mertd.stream.zap import Guard

MAX_PARTS = 4
"""Parts of a message that are kept; a request has at most three."""

PART_BYTES = 9
"""What ZMTP adds to a part, at most."""

REQUESTS = Rate(burst=100.0, per_second=50.0)
"""How many requests a client may make."""

PAGE_BYTES = Rate(burst=4e6, per_second=6e6)
"""How many bytes of history a client may ask for; beyond, its next page waits."""

REMEMBERED = 1_024
"""Clients whose allowance is remembered."""

MAX_REFUSED = 1_000
"""Requests beyond its allowance, without one within it, after which a client is cut off."""

LOOP_TIME = Rate(burst=0.01, per_second=0.2)
"""Seconds of the event loop that requests may take when they are many."""

LONGEST_REST_S = 0.05
"""Longest pause in reading requests, however long the last one took."""

PACED = frozenset({"history"})
"""Requests whose replies are pages."""

MAX_PACED = 2_048
"""Requests for pages that may wait."""

MAX_PACED_PER_CLIENT = 64
"""The same of one client."""

WAITING = 64
"""Requests that may wait for something to happen, such as `now` for its window."""

SEND_QUEUE = 1_000
"""Replies that libzmq may hold for one client; their bytes are bounded by `mertd.stream.connections`."""

Handler = Callable[[dict[str, Any]], Page | Awaitable[Page]]
"""Answers one request, now or later; raises `MertdError` or `ValueError` to refuse."""


@dataclass(frozen=True)
class _Asker:
    """Who asked. `address`: frames before the reply. `client`: whose allowance it uses, a key or a connection's identity."""

    address: list[bytes]
    client: str | bytes
    user: str
    connection: Connection | None
    identifier: Identifier = None


class ControlServer:
    """A ROUTER socket in an event loop. `refused`: requests that got an error for a reply."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        handler: Handler,
        guard: Guard | None = None,
        connections: Connections | None = None,
    ) -> None:
        """`guard`: who may ask what; without one, everybody everything. `connections`: bounds what clients send and leave
        unread. Raises `EndpointError` if the endpoint cannot be bound.
        """
        socket: zmq.Socket[bytes] = zmq.Context(context).socket(zmq.ROUTER)
        if guard:
            guard.secure(socket, "control")
        if connections is not None:
            connections.watch(socket, "control")
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        socket.setsockopt(zmq.RCVHWM, 0)  # a limit here lets a client abort the process; see `mertd.stream.connections`
        socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
        self._bound = Bound(socket, endpoint)
        self._handler, self._guard = handler, guard
        self._connections = connections
        self._turns: Turns[tuple[_Asker, dict[str, Any]]] = Turns(MAX_PACED, MAX_PACED_PER_CLIENT)
        self._requests = Allowance(REQUESTS, REMEMBERED)
        self._pages = Allowance(PAGE_BYTES, REMEMBERED)
        self._refusals: Counter[str | bytes] = Counter()
        self._later = set[asyncio.Task[None]]()
        self._loop_time = Bucket(LOOP_TIME, time.monotonic())
        self.refused = 0

    @property
    def endpoint(self) -> str:
        return self._bound.endpoint

    # Reading

    async def serve(self) -> None:
        """Answer until cancelled."""
        readiness = Readiness(self._bound.socket)
        self._readiness, self._page_wanted = readiness, asyncio.Event()
        pages = asyncio.create_task(self._serve_pages())
        try:
            while True:
                await readiness.wait()
                while self._read_one():
                    await self._rest()
        finally:
            for task in (pages, *self._later):
                task.cancel()
            await asyncio.gather(pages, return_exceptions=True)

    async def _rest(self) -> None:
        """Leave the event loop to the others once requests have had their share of it."""
        now = time.monotonic()
        left = self._loop_time.left(now)
        if left <= 0:
            await asyncio.sleep(min(LONGEST_REST_S, LOOP_TIME.burst - left / LOOP_TIME.per_second))

    def _read_one(self) -> bool:
        """Read and answer one request. False if none waits."""
        began = time.monotonic()
        socket = self._bound.socket
        try:
            frames = [socket.recv(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return False
        parts, size = 1, len(frames[0].buffer)
        last = frames[0]
        while last.more:
            last = socket.recv(copy=False)
            parts, size = parts + 1, size + len(last.buffer)
            if parts <= MAX_PARTS:
                frames.append(last)
        connection = self._connection_of(last)
        if connection is not None:
            connection.read += size + PART_BYTES * parts
        if parts > MAX_PARTS:
            self._cut_off(connection, f"it sent a message of more than {MAX_PARTS} parts")
        else:
            self._hear([frame.bytes for frame in frames], _user(last) if self._guard else "", connection, began)
        self._loop_time.spend(time.monotonic(), time.monotonic() - began)
        return True

    def _connection_of(self, frame: zmq.Frame) -> Connection | None:
        try:
            descriptor = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return None
        return self._connections.find(descriptor, "control") if self._connections is not None else None

    def _cut_off(self, connection: Connection | None, reason: str) -> None:
        if connection is not None and self._connections is not None:
            self._connections.sever(connection, reason)

    # Answering

    def _hear(self, frames: list[bytes], user: str, connection: Connection | None, now: float) -> None:
        if connection is not None:
            connection.user = user
        asker = _Asker(address_of(frames), user or frames[0], user, connection)
        try:
            body, identifier = parse_request(frames[1:])
            asker = _Asker(asker.address, asker.client, user, connection, identifier)
            if body.get("request") in PACED:
                self._queue(asker, body)
                return
            if not self._requests.take(asker.client, now):
                raise WireError(f"too many requests: {REQUESTS.per_second:.0f} a second are answered")
            self._refusals.pop(asker.client, None)
            page = self._ask(asker, body)
            if isinstance(page, Page):
                self._send_page(asker, page)
            elif len(self._later) >= WAITING:
                page.close()  # type: ignore[attr-defined]
                raise WireError(f"{WAITING} requests are waiting already; try again later")
            else:
                task = asyncio.ensure_future(self._answer_later(asker, page))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
        except (MertdError, ValueError) as error:
            self._refuse(asker, error)

    def _ask(self, asker: _Asker, body: dict[str, Any]) -> Page | Awaitable[Page]:
        if self._guard:
            self._guard.check(asker.user, body.get("request"))
        return self._handler(body)

    async def _answer_later(self, asker: _Asker, page: Awaitable[Page]) -> None:
        try:
            self._send_page(asker, await page)
        except (MertdError, ValueError) as error:
            self._refuse(asker, error)

    # Pages

    def _queue(self, asker: _Asker, body: dict[str, Any]) -> None:
        left_out = self._turns.add(asker.client, (asker, body))
        if left_out is not None:
            self._refuse(left_out[0], WireError("too many requests for history are waiting; try again later"))
        self._page_wanted.set()

    async def _serve_pages(self) -> None:
        """Build pages, one at a time, for one client after the other."""
        while True:
            now = time.monotonic()
            turn = self._turns.take(self._has_page_bytes)
            if turn is not None:
                self._answer_page(*turn)
                self._loop_time.spend(time.monotonic(), time.monotonic() - now)
                await self._rest()
                continue
            self._page_wanted.clear()
            soonest = min((self._pages.of(client, now).ready_at(now) for client in self._turns.clients()), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if soonest is None else max(0.0, soonest - now)):
                    await self._page_wanted.wait()

    def _has_page_bytes(self, client: Hashable) -> bool:
        now = time.monotonic()
        return self._pages.of(client, now).left(now) > 0

    def _answer_page(self, asker: _Asker, body: dict[str, Any]) -> None:
        try:
            page = self._ask(asker, body)
            assert isinstance(page, Page)
            size = self._send_page(asker, page)
            now = time.monotonic()
            self._pages.of(asker.client, now).spend(now, size)
        except (MertdError, ValueError) as error:
            self._refuse(asker, error)

    # Sending

    def _refuse(self, asker: _Asker, error: Exception) -> None:
        self.refused += 1
        self._refusals[asker.client] += 1
        if self._refusals[asker.client] > MAX_REFUSED:
            del self._refusals[asker.client]
            self._cut_off(asker.connection, f"{MAX_REFUSED} of its requests in a row were refused")
            return
        if len(self._refusals) > REMEMBERED:
            self._refusals.clear()
        self._send(asker, {"ok": False, "error": str(error)})

    def _send_page(self, asker: _Asker, page: Page) -> int:
        return self._send(asker, {"ok": True, "messages": page.messages, "more": page.more})

    def _send(self, asker: _Asker, body: dict[str, Any]) -> int:
        """Send a reply, and return its bytes. Raises `WireError` instead of a page for which there is no room, because the
        client has not read those before; one that does not even leave room for that is cut off.
        """
        reply = pack_reply(body, asker.identifier)
        connection = asker.connection
        if connection is not None and self._connections is not None:
            if not self._connections.room_for(connection, len(reply)):
                if not body["ok"]:
                    self._cut_off(connection, "it does not read its replies")
                    return 0
                raise WireError("the replies to your earlier requests are unread; read them first")
            self._connections.note_sent(connection, len(reply))
        with contextlib.suppress(zmq.ZMQError):  # the client is gone, or reads nothing
            self._bound.socket.send_multipart([*asker.address, reply], zmq.NOBLOCK)
        self._readiness.touched()
        return len(reply)

    def close(self) -> None:
        self._bound.close()


def _user(frame: zmq.Frame) -> str:
    """The public key of the sender, as the ZAP handler gave it; empty if it gave none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
