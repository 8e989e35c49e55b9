"""The publishing side: sends messages, remembers the last ones, counts what a slow subscriber missed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Protocol

import zmq

from mertd.stream.connections import Connection, Connections
from mertd.stream.endpoint import Bound
from mertd.stream.history import History
from mertd.stream.keys import Domain
from mertd.stream.readiness import Readiness
from mertd.stream.subscriptions import Subscriptions
from mertd.wire import Embedding, Event, Message, encode

HIGH_WATER_MARK = 1_000
"""Messages that may wait for one subscriber before it misses some."""

MAX_SUBSCRIPTION = 512
"""Bytes that a subscriber may send at once: of a topic, or of the handshake, whose longest command CURVE's is."""

READ_AT_ONCE = 256
"""Messages of subscribers that are read before the event loop does something else."""

READ_PAUSE_S = 0.005
"""How long it does something else."""

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
        connections: Connections | None = None,
    ) -> None:
        """`guard`: who may listen; without one, everybody. `connections`: cuts off subscribers that subscribe to too much.
        Raises `EndpointError` if the endpoint cannot be bound.
        """
        socket = context.socket(zmq.XPUB)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        if guard:
            guard.secure(socket, "publish")
        self._gone: deque[Connection] = deque()
        if connections is not None:
            connections.watch(socket, "publish", self._gone.append)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.RCVHWM, 0)  # a limit here lets a client abort the process; see `mertd.stream.connections`
        # A full queue is reported only in this mode, and then nobody gets the message.
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        # Every change of every subscriber, also to a topic that others have.
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._bound = Bound(socket, endpoint)
        self._connections = connections
        self._subscriptions: Subscriptions[Connection] = Subscriptions()
        self._stale: set[int] = set()
        self._readiness: Readiness | None = None
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
        if self._readiness is not None:
            self._readiness.touched()

    async def serve(self) -> None:
        """Read what subscribers say, until cancelled; unread it would pile up."""
        self._readiness = Readiness(self._bound.socket)
        while True:
            await self._readiness.wait()
            while self.read_subscriptions():
                await asyncio.sleep(READ_PAUSE_S)

    def read_subscriptions(self, most: int = READ_AT_ONCE) -> bool:
        """Read up to `most` messages of subscribers. Returns whether there may be more."""
        while self._gone:
            self._forget(self._gone.popleft())
        now = time.monotonic()
        for _ in range(most):
            try:
                frame = self._bound.socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._stale.clear()
                return False
            if self._connections is not None:
                self._hear(self._connections, frame, now)
        return True

    def _hear(self, connections: Connections, frame: zmq.Frame, now: float) -> None:
        try:
            descriptor = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:  # libzmq itself says this, of a subscriber that has gone
            return
        if descriptor in self._stale:
            return
        connection = connections.find(descriptor, "publish")
        if connection is None or connection.severed:
            return
        message = frame.bytes
        connection.read += len(message)
        connection.user = _user(frame)
        if reason := self._subscriptions.hear(connection, connection.user, message, now):
            connections.sever(connection, reason)
        elif (costliest := self._subscriptions.costliest()) is not None:
            connections.sever(costliest, "its topics take most of the memory for topics, which is full")

    def _forget(self, connection: Connection) -> None:
        self._subscriptions.forget(connection)
        if connection.severed:  # what it still has in the queue must not be taken for its successor's at the same descriptor
            self._stale.add(connection.descriptor)

    def close(self, linger_s: float = 0.0) -> None:
        """Unbind; the context may then wait `linger_s` for the last messages to leave."""
        self._bound.close(linger_s)


def _user(frame: zmq.Frame) -> str:
    """The public key of the sender, as the ZAP handler gave it; empty if it gave none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
