"""Questions to a running daemon: `status` and `replay`, one msgpack map each way over REQ/ROUTER.

{schema: 1, request: "status"}                                   -> {schema: 1, ok: true, messages: [[topic, payload]]}
{schema: 1, request: "replay", kind: …, stream: "", last: 5}     -> the same, with as many messages
anything else                                                    -> {schema: 1, ok: false, error: "…"}
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from mertd.errors import EndpointError, WireError
from mertd.stream.endpoint import Bound, harden
from mertd.wire import SCHEMA, Message, decode

MAX_REQUEST = 4_096
MAX_REPLY = 64 << 20

Handler = Callable[[dict[str, Any]], list[list[bytes]]]
"""Answers one request with messages in frames; raises `WireError` to refuse."""


class ControlServer:
    """A ROUTER socket in an event loop."""

    def __init__(self, context: zmq.asyncio.Context, endpoint: str, handler: Handler) -> None:
        """Raises `EndpointError` if the endpoint cannot be bound."""
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        self._bound = Bound(socket, endpoint)  # type: ignore[arg-type]
        self._socket, self._handler = socket, handler

    @property
    def endpoint(self) -> str:
        return self._bound.endpoint

    async def serve(self) -> None:
        """Answer until cancelled."""
        while True:
            client, *envelope = await self._socket.recv_multipart()
            with contextlib.suppress(zmq.Again):  # a client that does not read its answers gets no more
                await self._socket.send_multipart([client, b"", self._answer(envelope)], zmq.NOBLOCK)

    def _answer(self, envelope: list[bytes]) -> bytes:
        try:
            messages = self._handler(_request(envelope))
        except WireError as error:
            return msgpack.packb({"schema": SCHEMA, "ok": False, "error": str(error)})  # type: ignore[no-any-return]
        return msgpack.packb({"schema": SCHEMA, "ok": True, "messages": messages})  # type: ignore[no-any-return]

    def close(self) -> None:
        self._bound.close()


def _request(envelope: list[bytes]) -> dict[str, Any]:
    if len(envelope) != 2 or envelope[0]:
        raise WireError("wanted one frame from a REQ socket")
    try:
        body = msgpack.unpackb(envelope[1], strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"request is not msgpack: {error}") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise WireError(f"request is not a map with schema {SCHEMA}")
    return body


def ask(endpoint: str, request: dict[str, Any], timeout_s: float = 3.0) -> list[Message]:
    """Put one question to a daemon. Raises `EndpointError` when it does not answer or refuses, `WireError` for a bad answer."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        harden(socket)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise EndpointError(f"{endpoint} is not an endpoint: {error}") from error
        socket.send(msgpack.packb({"schema": SCHEMA, **request}))
        if not socket.poll(round(timeout_s * 1000)):
            raise EndpointError(f"no daemon answers at {endpoint}; is `mertd run` running, with this --control?")
        reply = socket.recv()
    try:
        body = msgpack.unpackb(reply)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"answer is not msgpack: {error}") from error
    match body:
        case {"ok": True, "messages": list() as messages} if all(_are_frames(frames) for frames in messages):
            return [decode(frames) for frames in messages]
        case {"ok": False, "error": str() as text}:
            raise EndpointError(f"{endpoint} refuses: {text}")
    raise WireError(f"{endpoint} gave an answer that is none")


def _are_frames(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(frame, bytes) for frame in value)
