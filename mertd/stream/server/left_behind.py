"""Bytes that connections had sent when they went, and that the daemon has not read.

libzmq works them off all the same, and no kernel counts them any more. What the event loop reads no longer tells whose it was,
so all of them count until a socket is found empty.
"""

from __future__ import annotations

import threading

from mertd.stream.curve_keys import Domain
from mertd.stream.server.connection import BACKLOG_LIMITS, Connection


class LeftBehind:
    """The sums of both sockets, for several threads."""

    def __init__(self) -> None:
        self._bytes: dict[Domain, float] = {"publish": 0.0, "control": 0.0}
        self._lock = threading.Lock()

    def add(self, connection: Connection) -> None:
        """Count a connection that is gone."""
        with self._lock:
            self._bytes[connection.domain] += connection.backlog

    def of(self, domain: Domain) -> float:
        """Return the bytes that are still to be read from a socket."""
        return self._bytes[domain]

    def drained(self, domain: Domain, size: float) -> None:
        """Count that a socket was found empty: what `of` gave before it was read is read."""
        with self._lock:
            self._bytes[domain] -= size

    def is_little(self, domain: Domain) -> bool:
        """Return whether there is little enough to let new connections begin."""
        return self._bytes[domain] <= BACKLOG_LIMITS[domain].of_gone
