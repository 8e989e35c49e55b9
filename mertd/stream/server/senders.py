"""Which connection a message of a ROUTER has come from.

libzmq gives a message the descriptor on which it arrived, but when it is read that may be closed, or belong to another
connection, which must not be blamed for it. The identity that a ROUTER gives to a connection is never used again. So a
connection is found by its descriptor at its first message, if no one who had it before may have sent it, and by its identity
from then on.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

import zmq

from mertd.stream.server.connection import Connection
from mertd.stream.server.connections import Connections

MAX_UNREACHABLE = 16
"""Requests of a client that is gone that are still obeyed; it may have left in order."""


@dataclass(frozen=True)
class Before:
    """What was still to be read, and how many connections were gone, before a socket was read."""

    left_behind: float
    gone: int


class Senders:
    """The senders of the control socket."""

    def __init__(self, connections: Connections | None) -> None:
        self._connections = connections
        self._known: dict[bytes, Connection] = {}
        self._gone: deque[Connection] = deque()
        self._unreachable: Counter[bytes] = Counter()  # replies that did not find their client, by identity
        self._ambiguous: Counter[int] = Counter()  # descriptors of those that are gone and may have left messages
        self._lock = threading.Lock()

    def find(self, identity: bytes, last: zmq.Frame) -> Connection | None:
        """Return the connection of a message with this last frame; None if it is gone, or not watched."""
        known = self._known.get(identity)
        if known is not None or self._connections is None:
            return known
        try:
            descriptor = int(last.get(zmq.SRCFD))
        except zmq.ZMQError:
            return None
        if descriptor in self._ambiguous:
            return None
        found = self._connections.find(descriptor, "control")
        if found is None or found.identity:
            return None
        found.identity = identity
        self._known[identity] = found
        return found

    def is_cut_off(self, identity: bytes) -> bool:
        """Return whether what this sender still has in the queue is to be ignored."""
        known = self._known.get(identity)
        return (known is not None and known.severed) or self._unreachable[identity] >= MAX_UNREACHABLE

    def note_unreachable(self, identity: bytes) -> None:
        """Count a reply whose client was gone."""
        self._unreachable[identity] += 1

    def note_gone(self, connection: Connection) -> None:
        """Note a connection that is gone. Called in the thread that watches connections."""
        with self._lock:
            self._gone.append(connection)
            self._ambiguous[connection.descriptor] += 1

    def before_read(self) -> Before:
        """Call before the socket is read, and give the result to `drained` if it turns out to be empty."""
        return Before(self._connections.left_behind.of("control") if self._connections is not None else 0.0, len(self._gone))

    def drained(self, before: Before) -> None:
        """The socket was found empty: all that those who were gone before had sent has been read."""
        if self._connections is not None:
            self._connections.left_behind.drained("control", before.left_behind)
        self._unreachable.clear()
        with self._lock:
            for _ in range(before.gone):
                gone = self._gone.popleft()
                self._known.pop(gone.identity, None)
                self._ambiguous[gone.descriptor] -= 1
                if not self._ambiguous[gone.descriptor]:
                    del self._ambiguous[gone.descriptor]
