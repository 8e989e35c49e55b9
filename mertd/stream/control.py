"""The daemon's control socket: one msgpack map each way, over ROUTER; ask with REQ, or with DEALER.

    {schema: 1, request: "status"}
    {schema: 1, request: "history", kind: "embedding" | "event", stream: "" (all), last: 5}
    {schema: 1, request: "history", kind: …, stream: "room", first: 17, end: 42, boot: bin}; without `end`
                                                          up to the newest, without `boot` of whichever run it is
    {schema: 1, request: "now", stream: "room"}           embed the newest window at once
    {schema: 1, request: "pause", stream: "room"}         close its source; then nothing hears it
    {schema: 1, request: "resume", stream: "room"}        open it again; an event `resumed` follows
    {schema: 1, request: "set", stream: "" (all), hop: seconds, gate: dBFS}, at least one of the last two
    {schema: 1, request: "shutdown"}

    -> {schema: 1, ok: true, messages: [[topic, payload], …], more: bool}     in the form in which messages are published
    -> {schema: 1, ok: false, error: "what is wrong, and what to do"}         to everything else

`messages` holds the status, the past, the embedding that was asked for, or the events that tell of a change. `more`: the answer
was cut off at a page; ask again from the next `seq`. An `id` in a request (a number, or text of at most 64 characters) comes
back in its answer. Requests have at most 4 kB. Each client (with CURVE, each key) may ask 50 times a second, and all of them
together get a fifth of the daemon's time. With CURVE, keys without the right to control may only ask for status and history.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from mertd.errors import MertdError, WireError
from mertd.stream.endpoint import Bound
from mertd.stream.history import Page
from mertd.stream.zap import Guard
from mertd.wire import SCHEMA

MAX_REQUEST, MAX_ID = 4_096, 64
RATE, BURST, REMEMBERED = 50.0, 100.0, 1_024
"""Requests a second from one client, those it may make in advance, and clients whose rate is remembered."""

SHARE = 0.2
"""Of the event loop's time that requests may take when they are many."""

WAITING = 64
"""Requests that may wait for an answer at a time."""

Handler = Callable[[dict[str, Any]], Page | Awaitable[Page]]
"""Answers one request, now or later; raises `MertdError` or `ValueError` to refuse."""


class Allowance:
    """Who has asked how often: a bucket of `BURST` for each client, filled at `RATE`."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, client: bytes, now: float) -> bool:
        """Whether the client may ask once more at `now`, in monotonic seconds."""
        left, since = self._buckets.pop(client, (BURST, now))
        left = min(BURST, left + (now - since) * RATE)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1


class ControlServer:
    """A ROUTER socket in an event loop. `refused`: requests that got an error for an answer."""

    def __init__(self, context: zmq.asyncio.Context, endpoint: str, handler: Handler, guard: Guard | None = None) -> None:
        """`guard`: who may ask what; without one, everybody everything. Raises `EndpointError` if it cannot be bound."""
        socket = context.socket(zmq.ROUTER)
        if guard:
            guard.secure(socket, "control")
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        socket.setsockopt(zmq.RCVHWM, WAITING)
        self._bound = Bound(socket, endpoint)  # type: ignore[arg-type]
        self._socket, self._handler, self._guard = socket, handler, guard
        self._allowance, self._later = Allowance(), set[asyncio.Task[None]]()
        self.refused = 0

    @property
    def endpoint(self) -> str:
        return self._bound.endpoint

    @property
    def bound(self) -> Bound:
        """To disconnect everyone, and let them come back."""
        return self._bound

    async def serve(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                frames = await self._socket.recv_multipart(copy=False)
                began = time.monotonic()
                client, *envelope = [frame.bytes for frame in frames]
                await self._hear(client, envelope, began, _user(frames[-1]) if self._guard else "")
                await asyncio.sleep((time.monotonic() - began) * (1 / SHARE - 1))
        finally:
            for task in self._later:
                task.cancel()

    async def _hear(self, client: bytes, envelope: list[bytes], now: float, user: str) -> None:
        head = [client, *envelope[:-1]] if len(envelope) == 2 and not envelope[0] else [client]
        identifier: int | str | None = None
        try:
            body = _request(envelope)
            identifier = body.pop("id", None)
            if not self._allowance.take(user.encode() or client, now):
                raise WireError(f"too many requests: {RATE:.0f} a second are answered")
            if self._guard:
                self._guard.check(user, body.get("request"))
            page = self._handler(body)
            if isinstance(page, Page):
                await self._send(head, identifier, page)
            elif len(self._later) >= WAITING:
                page.close()  # type: ignore[attr-defined]
                raise WireError(f"{WAITING} requests are waiting already; try again later")
            else:
                task = asyncio.ensure_future(self._answer_later(head, identifier, page))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
        except (MertdError, ValueError) as error:
            await self._refuse(head, identifier, error)

    async def _answer_later(self, head: list[bytes], identifier: int | str | None, page: Awaitable[Page]) -> None:
        try:
            await self._send(head, identifier, await page)
        except (MertdError, ValueError) as error:
            await self._refuse(head, identifier, error)

    async def _refuse(self, head: list[bytes], identifier: int | str | None, error: Exception) -> None:
        self.refused += 1
        await self._reply(head, identifier, {"ok": False, "error": str(error)})

    async def _send(self, head: list[bytes], identifier: int | str | None, page: Page) -> None:
        await self._reply(head, identifier, {"ok": True, "messages": page.messages, "more": page.more})

    async def _reply(self, head: list[bytes], identifier: int | str | None, body: dict[str, Any]) -> None:
        body = {"schema": SCHEMA, **body, **({} if identifier is None else {"id": identifier})}
        with contextlib.suppress(zmq.Again):  # a client that does not read its answers gets no more
            await self._socket.send_multipart([*head, msgpack.packb(body)], zmq.NOBLOCK)

    def close(self) -> None:
        self._bound.close()


def _user(frame: zmq.Frame) -> str:
    """The public key of who has sent it, as the ZAP handler has said; empty if nobody has said so."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def _request(envelope: list[bytes]) -> dict[str, Any]:
    """The map in the frames behind the client's identity. Raises `WireError` if there is none."""
    if not (len(envelope) == 1 or (len(envelope) == 2 and not envelope[0])):
        raise WireError(f"{len(envelope)} frames, wanted a request in one")
    try:
        body = msgpack.unpackb(envelope[-1], strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"request is not msgpack: {error}") from error
    if not isinstance(body, dict) or body.pop("schema", None) != SCHEMA:
        raise WireError(f"request is not a map with schema {SCHEMA}")
    identifier = body.get("id")
    if not (identifier is None or type(identifier) is int or (isinstance(identifier, str) and len(identifier) <= MAX_ID)):
        raise WireError(f"id is neither a number nor text of at most {MAX_ID} characters")
    return body
