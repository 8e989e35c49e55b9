"""The asking end of the control socket: one msgpack map each way, as described at the head of `mertd/stream/control.py`.

Rules of this file: no asyncio, which costs `mertd tail` a tenth of a second. What asks in an event loop shares `pack` and
`unpack`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from mertd.errors import EndpointError, WireError
from mertd.stream.endpoint import harden
from mertd.stream.keys import ClientKeys
from mertd.stream.monitor import Refusals
from mertd.wire import SCHEMA, Message, decode

MAX_REPLY = 8 << 20
"""Bytes: twice what a daemon puts on a page."""

PATIENCE_S = 3.0


@dataclass(frozen=True)
class Reply:
    """What a daemon answered. `more`: there are messages beyond these, for another request."""

    messages: list[Message]
    more: bool


def ask(endpoint: str, request: dict[str, Any], timeout_s: float = PATIENCE_S, keys: ClientKeys | None = None) -> list[Message]:
    """Put one question to a daemon. `keys`: for one that is started with --curve.

    Raises `EndpointError` when it does not answer or refuses, `WireError` for a bad answer.
    """
    return ask_page(endpoint, request, timeout_s, keys).messages


def ask_page(endpoint: str, request: dict[str, Any], timeout_s: float = PATIENCE_S, keys: ClientKeys | None = None) -> Reply:
    """The same, with what the answer says of itself."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        refusals = Refusals(context, socket, endpoint, keys is not None, True)
        with contextlib.closing(refusals):
            prepare(socket, endpoint, keys)
            socket.send(pack(request))
            deadline, poller = time.monotonic() + timeout_s, zmq.Poller()
            poller.register(socket, zmq.POLLIN)
            poller.register(refusals.socket, zmq.POLLIN)
            while not socket.poll(0):
                if not poller.poll(max(0, round((deadline - time.monotonic()) * 1000))):
                    raise silent(endpoint)
                refusals.check()
            return unpack(endpoint, socket.recv())


def prepare(socket: zmq.Socket[Any], endpoint: str, keys: ClientKeys | None = None) -> None:
    """Set a REQ socket up and connect it. Raises `EndpointError` for what is not an endpoint."""
    harden(socket)
    if keys:
        keys.secure(socket)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise EndpointError(f"{endpoint} is not an endpoint: {error}") from error


def silent(endpoint: str) -> EndpointError:
    """Nobody has answered in time."""
    return EndpointError(f"no daemon answers at {endpoint}; is `mertd run` running, with this --control?")


def pack(request: dict[str, Any]) -> bytes:
    """A request as it is sent."""
    return msgpack.packb({"schema": SCHEMA, **request})  # type: ignore[no-any-return]


def unpack(endpoint: str, reply: bytes) -> Reply:
    """An answer from `endpoint`. Raises `EndpointError` if it is a refusal, `WireError` if it is none."""
    try:
        body = msgpack.unpackb(reply)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"answer is not msgpack: {error}") from error
    match body:
        case {"ok": True, "messages": list() as messages} if all(_are_frames(frames) for frames in messages):
            return Reply([decode(frames) for frames in messages], body.get("more") is True)
        case {"ok": False, "error": str() as text}:
            raise EndpointError(f"{endpoint} refuses: {text}")
    raise WireError(f"{endpoint} gave an answer that is none")


def _are_frames(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(frame, bytes) for frame in value)
