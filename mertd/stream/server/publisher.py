"""The daemon's publishing socket: sends messages, keeps the last ones, and counts what slow subscribers missed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Protocol

import zmq

from mertd.stream.curve_keys import Domain
from mertd.stream.endpoint import BoundSocket
from mertd.stream.server.authenticator import user_of
from mertd.stream.server.connection import Connection
from mertd.stream.server.connections import Connections
from mertd.stream.server.history import History
from mertd.stream.server.readiness import Readiness
from mertd.stream.server.subscriptions import Subscriptions
from mertd.wire import Encoder, Message, Status

HIGH_WATER_MARK = 1_000
"""Messages that may wait for one subscriber before it misses some."""

MAX_SUBSCRIPTION = 512
"""Bytes of one frame of a subscriber: a topic, or a command of the handshake. CURVE's longest command needs most of them."""

READ_AT_ONCE = 256
"""Messages of subscribers that are read before the event loop does something else."""

READ_PAUSE_S = 0.005
"""Seconds that the event loop then has for other things."""

NO_WAIT = int(zmq.NOBLOCK)
"""Flag of a frame. A plain number: pyzmq takes longer to combine its named flags than to send."""

NO_WAIT_AND_MORE = NO_WAIT | int(zmq.SNDMORE)
"""Flags of a frame that another one follows."""

BACKLOG = 1_024
"""Connections that may wait to be accepted, as they do when all subscribers reconnect at the same moment."""


class SocketSecurity(Protocol):
    """What gives a socket its keys before it is bound, such as an `Authenticator`."""

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None: ...


class Publisher:
    """An XPUB socket. It never blocks: a subscriber that does not keep up loses messages.

    `dropped` counts how often a subscriber's queue ran full. How many messages it then missed, only its own `seq` tells: libzmq
    reports nothing more until the queue has drained.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        authenticator: SocketSecurity | None = None,
        connections: Connections | None = None,
    ) -> None:
        """`authenticator`: who may listen; without one, everybody. `connections`: cuts off subscribers that subscribe to too
        much. Raises `EndpointError` if the endpoint cannot be bound.
        """
        socket = context.socket(zmq.XPUB)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION)
        socket.setsockopt(zmq.BACKLOG, BACKLOG)
        if authenticator:
            authenticator.secure(socket, "publish")
        self._gone: deque[Connection] = deque()
        if connections is not None:
            connections.watch(socket, "publish", self._gone.append)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.RCVHWM, 0)  # a limit here lets a client abort the process; see `mertd.stream.server.connections`
        # A full queue is reported only in this mode, and then nobody gets the message.
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        # Every change of every subscriber, also to a topic that others have.
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._bound = BoundSocket(socket, endpoint)
        self._connections = connections
        self._subscriptions: Subscriptions[Connection] = Subscriptions()
        self._stale: set[int] = set()
        self._readiness: Readiness | None = None
        self._encoder = Encoder()
        self.history = History()
        self.published = 0
        self.dropped = 0

    @property
    def endpoint(self) -> str:
        return self._bound.endpoint

    @property
    def subscribers(self) -> int:
        """Connections that have subscribed to something, as far as `serve` has read."""
        return len(self._subscriptions)

    @property
    def facts(self) -> dict[str, int]:
        """What the status says of subscribers and of what is kept for them."""
        return {
            "subscribers": self.subscribers,
            "history_messages": len(self.history),
            "history_bytes": self.history.bytes,
        }

    def send_if_room(self, message: Message) -> bool:
        """Publish a message if no subscriber's queue is full, and keep it in the history. Returns whether that is so.

        Raises `WireError` for what the wire cannot carry.
        """
        frames = self._encoder.encode(message)
        try:
            self._send(frames)
        except zmq.Again:
            return False
        self._note_sent(message, frames)
        return True

    def send(self, message: Message) -> None:
        """Publish, and keep in the history. Raises `WireError` for what the wire cannot carry."""
        frames = self._encoder.encode(message)
        try:
            self._send(frames)
        except zmq.Again:  # count it, and send to all the others
            self.dropped += 1
            self._bound.socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._send(frames)
            self._bound.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._note_sent(message, frames)

    def _send(self, frames: list[bytes]) -> None:
        """Send two frames. Raises `zmq.Again` if a queue is full: at the first frame, or not at all."""
        send = self._bound.socket.send
        topic, payload = frames
        send(topic, NO_WAIT_AND_MORE)
        send(payload, NO_WAIT)

    def _note_sent(self, message: Message, frames: list[bytes]) -> None:
        if not isinstance(message, Status):
            self.history.add(message, frames)
        self.published += 1
        if self._readiness is not None:
            self._readiness.touched()

    async def serve(self) -> None:
        """Read what subscribers say, until cancelled; unread it would pile up."""
        self._readiness = Readiness(self._bound.socket)
        if self._connections is not None:
            self._connections.left_behind.on_much("publish", self._readiness.wake_from_other_threads())
        while True:
            await self._readiness.wait()
            while self.read_subscriptions():
                await asyncio.sleep(READ_PAUSE_S)

    def read_subscriptions(self, most: int = READ_AT_ONCE) -> bool:
        """Read up to `most` messages of subscribers. Returns whether there may be more."""
        while self._gone:
            self._forget(self._gone.popleft())
        now = time.monotonic()
        left_behind = self._connections.left_behind.of("publish") if self._connections is not None else 0.0
        for _ in range(most):
            try:
                frame = self._bound.socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._stale.clear()
                if self._connections is not None:
                    self._connections.left_behind.drained("publish", left_behind)
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
        connection.user = user_of(frame)
        connection.note_read(len(message))
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
