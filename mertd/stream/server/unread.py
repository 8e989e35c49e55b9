"""How many bytes of replies clients have been sent and have not taken.

libzmq bounds its send queues in messages, and a reply may be a megabyte. So replies are counted in bytes, against what the
kernel says each peer has acknowledged. The caller holds the lock that guards the connections.
"""

from __future__ import annotations

from collections.abc import Iterable

from mertd.stream.server.connection import Connection, largest_until

FEW_BYTES = 64 << 10
"""Bytes that may be unread before the kernel is asked."""

MAX_UNREAD_BYTES = 2 << 20
"""Bytes that one connection may leave unread: two pages of history."""

MAX_UNREAD_BYTES_IN_ALL = 4 << 20
"""Bytes that all connections together may leave unread."""


class UnreadReplies:
    """The sum over all connections."""

    def __init__(self) -> None:
        self._total = 0

    def allows(self, connection: Connection, size: int) -> bool:
        """Return whether `size` bytes more may be unread on this connection. Short replies, such as errors, have extra room."""
        if connection.unread + size > FEW_BYTES:
            self._measure(connection)
        extra = FEW_BYTES if size <= FEW_BYTES else 0
        return connection.unread + size <= MAX_UNREAD_BYTES + extra

    def in_the_way(self, connections: Iterable[Connection], size: int) -> list[Connection]:
        """Return the connections that have to go, the ones with most unread first, before `size` bytes more may be sent."""
        if self._total + size <= MAX_UNREAD_BYTES_IN_ALL:
            return []
        everyone = list(connections)
        for connection in everyone:
            self._measure(connection)
        excess = self._total + size - MAX_UNREAD_BYTES_IN_ALL
        return list(largest_until(everyone, lambda one: one.unread, excess))

    def add(self, connection: Connection, size: int) -> None:
        """Count a reply."""
        connection.sent += size
        connection.unread += size
        self._total += size

    def forget(self, connection: Connection) -> None:
        """The connection is gone, and what it had not read with it."""
        self._total -= connection.unread
        connection.unread = 0

    def _measure(self, connection: Connection) -> None:
        before = connection.unread
        self._total += connection.measure_unread() - before
