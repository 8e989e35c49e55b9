"""The daemon's control socket: one msgpack map each way, over ROUTER. docs/protocol.md describes requests and replies.

No client can keep it from the others. Requests together take a bounded share of the event loop; each client (with CURVE, each
key) has an allowance; pages of history are built one at a time, and clients take turns for them; what clients send, or leave
unread, is bounded in bytes by `mertd.stream.server.connections`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import zmq

from mertd.errors import MertdError, WireError
from mertd.stream.endpoint import BoundSocket
from mertd.stream.envelope import MAX_REQUEST, address_of, parse_request
from mertd.stream.server.allowance import Allowance, Rate
from mertd.stream.server.authenticator import Authenticator, user_of
from mertd.stream.server.connection import Connection
from mertd.stream.server.connections import Connections
from mertd.stream.server.history import PAGE_BYTES, Page
from mertd.stream.server.loop_share import LoopShare
from mertd.stream.server.paging import PageQueue
from mertd.stream.server.replies import Asker, Replies
from mertd.stream.server.senders import Senders

MAX_PARTS = 64
"""Parts of a message that is answered, if with an error; a request has at most three. Clients that send more are cut off."""

REQUESTS = Rate(burst=100.0, per_second=50.0)
"""How many requests a client may make."""

REMEMBERED = 1_024
"""Clients whose allowance is remembered."""

LOOP_TIME = Rate(burst=0.01, per_second=0.15)
"""Seconds of the event loop that requests may take when they are many."""

PAGE_TIME = Rate(burst=0.01, per_second=0.05)
"""Seconds of the event loop that pages of history may take besides; those who ask for them do not hold up other requests."""

LONGEST_REST_S = 0.03
"""Longest pause in reading requests, however long the last one took."""

LONGEST_PAGE_REST_S = 0.25
"""Longest pause between two pages."""

PAGED = frozenset({"history"})
"""Requests whose replies are pages."""

WAITING = 64
"""Requests that may wait for something to happen, such as `now` for its window."""

BACKLOG = 1_024
"""Clients that may come at the same moment. Of more, the kernel drops some, which try again after a second."""

SEND_QUEUE = 1_000
"""Replies that libzmq may hold for one client; `mertd.stream.server.unread` bounds their bytes."""

Handler = Callable[[dict[str, Any]], Page | Awaitable[Page]]
"""Answers one request, now or later; raises `MertdError` or `ValueError` to refuse."""


class ControlServer:
    """A ROUTER socket in an event loop."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        handler: Handler,
        authenticator: Authenticator | None = None,
        connections: Connections | None = None,
    ) -> None:
        """`authenticator`: who may ask what; without one, everybody may ask everything. `connections`: bounds what clients send
        and leave unread. Raises `EndpointError` if the endpoint cannot be bound.
        """
        self._senders = Senders(connections)
        socket: zmq.Socket[bytes] = zmq.Context(context).socket(zmq.ROUTER)
        if authenticator is not None:
            authenticator.secure(socket, "control")
        if connections is not None:
            connections.watch(socket, "control", self._senders.note_gone)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        socket.setsockopt(zmq.RCVHWM, 0)  # a limit lets a client abort the process; see `mertd.stream.server.connections`
        socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # say so when a client is gone
        self._bound = BoundSocket(socket, endpoint)
        self._handler = handler
        self._authenticator = authenticator
        self._connections = connections
        self._replies = Replies(socket, connections, self._senders.note_unreachable)
        self._pages = PageQueue()
        self._allowance = Allowance(REQUESTS, REMEMBERED)
        self._later = set[asyncio.Task[None]]()
        self._loop_share = LoopShare(LOOP_TIME, LONGEST_REST_S)
        self._page_share = LoopShare(PAGE_TIME, LONGEST_PAGE_REST_S)

    @property
    def endpoint(self) -> str:
        return self._bound.endpoint

    @property
    def refused(self) -> int:
        """Requests that got an error for a reply."""
        return self._replies.refused

    def close(self) -> None:
        self._bound.close()

    # Reading

    async def serve(self) -> None:
        """Answer until cancelled."""
        if self._connections is not None:
            self._connections.left_behind.on_much("control", self._replies.readiness.wake_from_other_threads())
        pages = asyncio.create_task(self._serve_pages())
        try:
            while True:
                await self._replies.readiness.wait()
                while self._read_one():
                    await self._loop_share.rest()
        finally:
            for task in (pages, *self._later):
                task.cancel()

    def _read_one(self) -> bool:
        """Read and answer one request. Return False if none waits."""
        began = time.monotonic()
        before = self._senders.before_read()
        socket = self._bound.socket
        try:
            last = socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self._senders.drained(before)
            return False
        frames = [last]
        identity = last.bytes
        if self._senders.is_cut_off(identity):
            self._skip(last, began)
            return True
        while last.more and len(frames) <= MAX_PARTS:
            last = socket.recv(copy=False)
            frames.append(last)
        connection = self._senders.find(identity, last)
        user = user_of(last) if self._authenticator is not None else ""
        if connection is not None:
            connection.user = user
            for frame in frames[1:]:  # the first is the client's identity, which ROUTER adds
                connection.note_read(len(frame.buffer))
        if len(frames) > MAX_PARTS:
            self._replies.cut_off(connection, f"it sent a message of more than {MAX_PARTS - 1} parts")
            self._skip(last, began)
            return True
        if connection is None or not connection.severed:
            self._answer([frame.bytes for frame in frames], user, connection, began)
        self._loop_share.spend_since(began)
        return True

    def _skip(self, last: zmq.Frame, began: float) -> None:
        """Read the rest of a message, of which there may be tens of thousands of parts."""
        while last.more:
            last = self._bound.socket.recv(copy=False)
        self._loop_share.spend_since(began)

    # Answering

    def _answer(self, frames: list[bytes], user: str, connection: Connection | None, now: float) -> None:
        asker = Asker(address_of(frames), user or frames[0], user, connection)
        try:
            body, identifier = parse_request(frames[1:])
            asker = replace(asker, identifier=identifier)
            name = body.get("request")
            if not isinstance(name, str | None):  # a list, for example, which no table of names can be asked for
                raise WireError(f"`request` must be the name of a request, not {type(name).__name__}")
            if name in PAGED:
                self._queue_for_page(asker, body)
                return
            if not self._allowance.take(asker.client, now):
                raise WireError(f"too many requests: {REQUESTS.per_second:.0f} a second are answered")
            page = self._ask(asker, body)
            if isinstance(page, Page):
                self._replies.send_page(asker, page)
            else:
                self._answer_when_ready(asker, page)
        except (MertdError, ValueError) as error:
            self._replies.refuse(asker, error)

    def _ask(self, asker: Asker, body: dict[str, Any]) -> Page | Awaitable[Page]:
        if self._authenticator is not None:
            self._authenticator.check(asker.user, body.get("request"))
        return self._handler(body)

    def _answer_when_ready(self, asker: Asker, page: Awaitable[Page]) -> None:
        if len(self._later) >= WAITING:
            page.close()  # type: ignore[attr-defined]
            raise WireError(f"{WAITING} requests are waiting already; try again later")
        task = asyncio.ensure_future(self._answer_later(asker, page))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _answer_later(self, asker: Asker, page: Awaitable[Page]) -> None:
        try:
            self._replies.send_page(asker, await page)
        except (MertdError, ValueError) as error:
            self._replies.refuse(asker, error)

    # Pages

    def _queue_for_page(self, asker: Asker, body: dict[str, Any]) -> None:
        left_out = self._pages.add(asker, body)
        if left_out is not None:
            self._replies.refuse(left_out, WireError("too many requests for history are waiting; try again later"))

    async def _serve_pages(self) -> None:
        while True:
            asker, body = await self._pages.next()
            began = time.monotonic()
            try:
                page = self._ask(asker, body)
                if isinstance(page, Page):
                    self._pages.spend(asker, self._replies.send_page(asker, page))
                else:  # from a process of its own: a whole page is counted, whatever comes
                    self._pages.spend(asker, PAGE_BYTES)
                    self._answer_when_ready(asker, page)
            except (MertdError, ValueError) as error:
                self._replies.refuse(asker, error)
            self._page_share.spend_since(began)
            await self._page_share.rest()
