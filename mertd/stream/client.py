"""A subscriber that knows what it has missed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import zmq

from mertd.errors import EndpointError
from mertd.stream.endpoint import harden
from mertd.wire import Embedding, Event, Message, decode


@dataclass(frozen=True, eq=False)
class Received:
    """One message, and how many of its kind and stream were lost just before it."""

    message: Message
    lost: int


class Subscriber:
    """Messages of some kinds and streams, each once, in order, with losses counted by `seq`."""

    def __init__(self, endpoint: str, streams: Iterable[str] = (), kinds: Iterable[str] = ("embedding",)) -> None:
        """`streams`: names; none for all. Raises `EndpointError` for what is not an endpoint."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        harden(self._socket)
        names = list(streams)
        for kind in kinds:
            for topic in [f"{kind}/{name}/" for name in names] if names and kind != "status" else [f"{kind}/"]:
                self._socket.subscribe(topic)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise EndpointError(f"{endpoint!r} is not an endpoint: {error}") from error
        self._expected: dict[tuple[bytes, str, str], int] = {}
        self._waiting: list[Message] = []

    def catch_up(self, control: str, stream: str, last: int, kind: str = "embedding") -> None:
        """Ask the daemon for the last messages; they come before the live ones. Call right after connecting."""
        from mertd.stream.control import ask  # and with it asyncio, only if asked for: `mertd tail` is to start fast

        self._waiting += ask(control, {"request": "replay", "kind": kind, "stream": stream, "last": last})

    def receive(self, timeout_s: float) -> Received | None:
        """The next message, or None if none came in time. Raises `WireError` for what is not wire version 1."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._waiting:
                message = self._waiting.pop(0)
            elif self._socket.poll(max(0, round((deadline - time.monotonic()) * 1000))):
                message = decode(self._socket.recv_multipart())
            else:
                return None
            lost = self._account(message)
            if lost is not None:
                return Received(message, lost)

    def _account(self, message: Message) -> int | None:
        """Messages lost before this one; None if it was had already, as replayed and live ones overlap."""
        if not isinstance(message, Embedding | Event):
            return 0
        key = (message.boot, message.kind, message.stream)
        expected = self._expected.get(key)
        if expected is not None and message.seq < expected:
            return None
        self._expected[key] = message.seq + 1
        return 0 if expected is None else message.seq - expected

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()
