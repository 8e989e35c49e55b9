"""The publishing side: sends messages, remembers the last ones, counts what a slow subscriber missed."""

from __future__ import annotations

from typing import Any, Protocol

import zmq

from mertd.stream.endpoint import Bound
from mertd.stream.history import History
from mertd.stream.keys import Domain
from mertd.wire import Embedding, Event, Message, encode

HIGH_WATER_MARK = 1_000
"""Messages that may wait for one subscriber before it misses some."""


MAX_SUBSCRIPTION = 1_024
"""Bytes that a subscriber may send at once: of a topic, or of the handshake."""

BACKLOG = 1_024
"""Subscribers that may come at the same moment, as they do when they all have to come back."""


class Guarding(Protocol):
    """What gives a socket its keys before it is bound: `mertd.stream.zap.Guard`, without its event loop."""

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None: ...


class Publisher:
    """An XPUB socket. Never blocks: a subscriber that does not keep up loses messages.

    `dropped` counts how often a queue ran full; until it has drained, libzmq says no more of it. What was lost then, only the
    subscriber's `seq` tells.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        guard: Guarding | None = None,
    ) -> None:
        """`guard`: who may listen; without one, everybody. Raises `EndpointError` if the endpoint cannot be bound."""
        socket = context.socket(zmq.XPUB)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        if guard:
            guard.secure(socket, "publish")
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        # A full queue is reported only in this mode, and then nobody gets the message.
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._bound = Bound(socket, endpoint)
        self.history = History()
        self.published = 0
        self.dropped = 0

    @property
    def endpoint(self) -> str:
        return self._bound.endpoint

    @property
    def bound(self) -> Bound:
        """To disconnect everyone, and let them come back."""
        return self._bound

    def send(self, message: Message) -> None:
        """Publish, and keep in the history. Raises `WireError` for what the wire cannot carry."""
        frames = encode(message)
        if isinstance(message, Embedding | Event):
            self.history.add(message, frames)
        socket = self._bound.socket
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:  # count it, and send to all the others
            self.dropped += 1
            socket.setsockopt(zmq.XPUB_NODROP, 0)
            socket.send_multipart(frames, zmq.NOBLOCK)
            socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.published += 1

    def forget_subscriptions(self) -> None:
        """Read what subscribers have said; unread it would pile up."""
        while self._bound.socket.poll(0, zmq.POLLIN):
            self._bound.socket.recv(zmq.NOBLOCK)

    def close(self, linger_s: float = 0.0) -> None:
        """Unbind; the context may then wait `linger_s` for the last messages to leave."""
        self._bound.close(linger_s)
