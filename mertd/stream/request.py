"""The asking end of the control socket: one msgpack map each way. docs/protocol.md describes requests and replies.

Rules of this file: no asyncio, which costs `mertd tail` a tenth of a second. Code in an event loop shares `pack` and `unpack`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from mertd.errors import EndpointError, WireError
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.endpoint import harden
from mertd.stream.families import connect
from mertd.stream.refusals import Refusals
from mertd.vocabulary import RequestName
from mertd.wire import SCHEMA, Message, decode

MAX_REPLY = 8 << 20
"""Bytes of a reply that are read: more than any daemon puts on a page."""

PATIENCE_S = 3.0
"""Seconds to wait for a reply, unless told otherwise."""

REPEAT_AFTER_S = (0.25, 0.5, 1.0, 2.0)
"""Seconds without a reply after which a request is sent again, if that changes nothing."""

TRY_AGAIN = "try again later"
"""What the error says if a request could not be answered at that moment: clients repeat it."""

READING = {RequestName.STATUS, RequestName.HISTORY}
"""Requests that change nothing."""


Decoder = Callable[[list[bytes]], Message]
"""Makes a message of its two frames; raises `WireError`."""


class RefusalError(EndpointError):
    """A daemon refuses a request, and says why."""

    @property
    def is_temporary(self) -> bool:
        """Whether the daemon says that it may answer later."""
        return TRY_AGAIN in str(self)


@dataclass(frozen=True)
class Reply:
    """What a daemon replied. `more`: there are further messages, for another request."""

    messages: list[Message]
    more: bool


def ask(endpoint: str, request: dict[str, Any], timeout_s: float = PATIENCE_S, keys: ClientKeys | None = None) -> list[Message]:
    """Send one request to a daemon and return the messages of its reply. `keys`: for one that was started with --curve.

    Raises `EndpointError` if there is no reply or the daemon refuses, `WireError` for an invalid reply.
    """
    return ask_page(endpoint, request, timeout_s, keys).messages


def ask_page(
    endpoint: str,
    request: dict[str, Any],
    timeout_s: float = PATIENCE_S,
    keys: ClientKeys | None = None,
    decoder: Decoder = decode,
) -> Reply:
    """Do the same as `ask`, and return the whole reply. `decoder`: makes a message of its two frames.

    A daemon that runs out of file descriptors or memory cuts connections off, and what it was asked over them is lost. A
    request that changes nothing is therefore sent again over further connections, and the first reply counts.
    """
    began = time.monotonic()
    repeats = [began + after for after in REPEAT_AFTER_S] if request.get("request") in READING else []
    with contextlib.ExitStack() as opened:
        context = opened.enter_context(zmq.Context())
        poller = zmq.Poller()
        attempts: list[tuple[zmq.Socket[Any], Refusals]] = []

        def send() -> None:
            socket = opened.enter_context(context.socket(zmq.REQ))
            refusals = Refusals(context, socket, endpoint, keys is not None, report_broken_off=True)
            opened.enter_context(contextlib.closing(refusals))
            prepare(socket, endpoint, keys)
            socket.send(pack(request))
            poller.register(socket, zmq.POLLIN)
            poller.register(refusals.socket, zmq.POLLIN)
            attempts.append((socket, refusals))

        send()
        while True:
            for socket, _ in attempts:
                if socket.poll(0):
                    return unpack(endpoint, socket.recv(), decoder)
            until = min([began + timeout_s, *repeats])
            if poller.poll(max(0, math.ceil((until - time.monotonic()) * 1000))):
                for _, refusals in attempts:
                    refusals.check()
            elif repeats and until == repeats[0]:
                repeats.pop(0)
                send()
            else:
                raise no_answer(endpoint)


def prepare(socket: zmq.Socket[Any], endpoint: str, keys: ClientKeys | None = None) -> None:
    """Set the options of a REQ socket and connect it. Raises `EndpointError` for an invalid endpoint."""
    harden(socket)
    if keys:
        keys.secure(socket)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
    try:
        connect(socket, endpoint)
    except zmq.ZMQError as error:
        raise EndpointError(f"{endpoint} is not an endpoint: {error}") from error


def no_answer(endpoint: str) -> EndpointError:
    """Return the error that says that a request timed out."""
    return EndpointError(f"no daemon answers at {endpoint}; is `mertd run` running, with this --control?")


def pack(request: dict[str, Any]) -> bytes:
    """Return a request as it is sent."""
    return msgpack.packb({"schema": SCHEMA, **request})  # type: ignore[no-any-return]


def unpack(endpoint: str, reply: bytes, decoder: Decoder = decode) -> Reply:
    """Return the reply of `endpoint`. Raises `EndpointError` if it is a refusal, `WireError` if it is invalid."""
    try:
        body = msgpack.unpackb(reply)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"the reply of {endpoint} is not msgpack: {error}") from error
    match body:
        case {"ok": True, "messages": list() as messages} if all(_are_frames(frames) for frames in messages):
            return Reply([decoder(frames) for frames in messages], body.get("more") is True)
        case {"ok": False, "error": str() as text}:
            raise RefusalError(f"{endpoint} refuses: {text}")
    raise WireError(f"{endpoint} sent an invalid reply; is it a mertd, of this version?")


def _are_frames(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(frame, bytes) for frame in value)
