"""One connection that a socket of the daemon has accepted, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mertd.stream.curve_keys import Domain
from mertd.stream.server import tcp


@dataclass(frozen=True)
class BacklogLimits:
    """Bytes that clients of one socket may have sent and the daemon has not read.

    libzmq needs many times as much memory for them: 64 times for topics that nobody else has, 32 times for empty parts.
    """

    of_one: int  # of one connection
    of_all: int  # of all connections together
    of_gone: int  # of connections that are gone; until they are read, new ones wait
    buffer: int  # what the kernel holds for one connection; a small buffer slows floods down


BACKLOG_LIMITS: dict[Domain, BacklogLimits] = {
    "publish": BacklogLimits(of_one=64 << 10, of_all=256 << 10, of_gone=64 << 10, buffer=2_048),
    "control": BacklogLimits(of_one=32 << 10, of_all=256 << 10, of_gone=64 << 10, buffer=8_192),
}
"""A subscriber of 2,000 streams sends 60 kB when it connects; 32 kB are 8 of the largest requests, or 300 ordinary ones."""

FORGIVEN_BYTES_PER_S = 1_024.0
"""How fast a backlog shrinks by itself: handshakes and PINGs are received, but never read."""

SHORT_PART_BYTES = 255
"""Longest part whose size ZMTP writes in one byte; that of a longer one takes eight."""

ENCRYPTION_BYTES = 33
"""What CurveZMQ adds to a part: the name of the command, a nonce, flags and a message authentication code."""


HANDSHAKE_BYTES = 64
"""A peer that has sent no more than ZMTP's greeting has not finished its handshake."""


@dataclass(eq=False)
class Connection:
    """One accepted connection. `peer`: its address, by which it is recognised."""

    descriptor: int
    domain: Domain
    family: int
    peer: object
    user: str | None = None  # public key; empty without encryption, None until the first message shows it
    identity: bytes = b""  # by which a ROUTER knows it, once it has sent a message
    received: int = 0  # bytes, as the kernel counts them
    read: int = 0  # bytes of messages that the daemon has read; counted by the event loop
    backlog: float = 0.0  # bytes received and not read, less what was forgiven
    sent: int = 0  # bytes of replies; counted by the event loop
    unread: int = 0  # bytes of replies that the peer's machine had not taken at the last look
    severed: bool = False
    measured_at: float = field(default_factory=time.monotonic)
    read_when_measured: int = 0

    def measure(self, now: float) -> bool:
        """Bring `received` and `backlog` up to date. Return False if the kernel keeps no count, or the connection is gone."""
        traffic = tcp.traffic(self.descriptor, self.family)
        if traffic is None:
            return False
        read = self.read
        change = (traffic.received - self.received) - (read - self.read_when_measured)
        forgiven = (now - self.measured_at) * FORGIVEN_BYTES_PER_S
        self.backlog = max(0.0, self.backlog + change - forgiven)
        self.received = traffic.received
        self.read_when_measured = read
        self.measured_at = now
        return True

    def note_read(self, size: int) -> None:
        """Count a part of `size` bytes that the event loop has read, as the bytes that it took on the wire."""
        if self.user:
            size += ENCRYPTION_BYTES
        self.read += size + (2 if size <= SHORT_PART_BYTES else 9)

    def measure_unread(self) -> int:
        """Bring `unread` up to date, and return it. It is 0 where the kernel keeps no count."""
        traffic = tcp.traffic(self.descriptor, self.family) if self.sent else None
        if traffic is None:
            self.unread = 0
        else:
            self.sent = max(self.sent, traffic.acknowledged)  # bytes acknowledged besides replies are no credit
            self.unread = self.sent - traffic.acknowledged
        return self.unread

    @property
    def is_behind(self) -> bool:
        """Whether more waits to be read than one connection may leave waiting."""
        return self.backlog > BACKLOG_LIMITS[self.domain].of_one

    @property
    def shook_hands(self) -> bool:
        """Whether it has got further than the greeting, when it was last measured."""
        return self.received > HANDSHAKE_BYTES


def largest_until(
    connections: Iterable[Connection], bytes_of: Callable[[Connection], float], excess: float
) -> Iterator[Connection]:
    """Yield connections, the ones with most bytes first, until they have `excess` bytes together."""
    for connection in sorted(connections, key=bytes_of, reverse=True):
        if excess <= 0:
            return
        excess -= bytes_of(connection)
        yield connection
