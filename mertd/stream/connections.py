"""Every connection that the daemon's sockets have accepted: counted, measured, and severed when it takes more than its share.

libzmq bounds its queues in complete messages. It does not bound a message of endless parts, the topics of a subscriber, or the
bytes of answers that nobody reads; and it cannot drop one connection. Bounding its receive queues would be no help: with a
finite one, libzmq 4.3.5 aborts the process if a peer fills the queue, sends a ZMTP PING and resets the connection (an assertion
in `out_event`; libzmq issues 3937, 4364, 4767 and 4841 are of the same kind). So the receive queues have no limit of their own,
and this file sets one, in bytes, by what the kernel counts for each connection.

A connection is severed by shutting its descriptor down. That takes no descriptor and disturbs nobody else; honest clients come
back by themselves and fetch what they have missed.
"""

from __future__ import annotations

import logging
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

import zmq

from mertd.stream import tcp
from mertd.stream.arrivals import Arrivals
from mertd.stream.keys import Domain
from mertd.stream.monitor import FAILED, Monitor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Bytes that clients of one socket may have sent and the daemon has not read.

    libzmq needs many times as much memory for them: 64 times for topics that nobody else has, 32 times for parts of no bytes.
    """

    of_one: int  # connection
    of_all: int  # connections together
    buffer: int  # what the kernel holds for one connection; a small buffer slows floods down


LIMITS: dict[Domain, Limits] = {
    "publish": Limits(of_one=64 << 10, of_all=256 << 10, buffer=2_048),
    "control": Limits(of_one=128 << 10, of_all=512 << 10, buffer=8_192),
}

FORGIVEN_BYTES_PER_S = 1_024.0
"""How fast bytes are forgiven that the daemon never reads: handshakes, PINGs and what encryption adds."""

PAUSE_S = 0.001
"""Shortest time between two looks at connections on which something arrives."""

WAIT_S = 1.0
"""Longest time between two looks."""

FEW_BYTES = 64 << 10
"""Answers that may be unread without a look at the connection."""

MAX_UNREAD_BYTES = 2 << 20
"""Answers that one connection may have been sent without having taken them: two pages of history."""

MAX_UNREAD_BYTES_IN_ALL = 8 << 20
"""The same of all connections together."""

MAX_CONNECTIONS = 2_048
"""Connections of both sockets together, if there are descriptors enough."""

DESCRIPTORS_KEPT = 64
"""Descriptors that clients may never take."""

SHARE_OF_DESCRIPTORS = 0.75
"""Of the limit on descriptors: what clients may take, less `DESCRIPTORS_KEPT`."""

MIN_CONNECTIONS = 16
"""Connections that are allowed however few descriptors there are."""

HANDSHAKE_BYTES = 64
"""A peer that has sent no more than ZMTP's greeting has not finished its handshake."""

CANDIDATES = 8
"""When there are too many connections, so many are drawn, and one of them has to go: at best one without a handshake."""

EVENTS = FAILED | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


@dataclass(eq=False)
class Connection:
    """One accepted connection. `peer`: its address, by which it is recognised."""

    descriptor: int
    domain: Domain
    family: int
    peer: object
    user: str | None = None  # public key; empty without encryption, None until the first message shows it
    received: int = 0  # bytes, by the kernel
    read: int = 0  # bytes that the daemon has read of them; counted by the event loop
    backlog: float = 0.0  # bytes received and not read, less what was forgiven
    sent: int = 0  # bytes of answers; counted by the event loop
    unread: int = 0  # bytes of answers that the peer's machine had not taken when it was last looked at
    severed: bool = False
    measured_at: float = field(default_factory=time.monotonic)
    _read_before: int = 0  # `read` at the last measurement

    def measure(self, now: float) -> bool:
        """Bring `received` and `backlog` up to date. False if the kernel keeps no count, or the connection is gone."""
        traffic = tcp.traffic(self.descriptor, self.family)
        if traffic is None:
            return False
        read = self.read
        arrived = traffic.received - self.received
        forgiven = (now - self.measured_at) * FORGIVEN_BYTES_PER_S
        self.backlog = max(0.0, self.backlog + arrived - (read - self._read_before) - forgiven)
        self.received = traffic.received
        self._read_before = read
        self.measured_at = now
        return True

    def look_at_unread(self) -> int:
        """Bring `unread` up to date, and return it. It is 0 where the kernel keeps no count."""
        traffic = tcp.traffic(self.descriptor, self.family) if self.sent else None
        if traffic is None:
            self.unread = 0
        else:
            self.sent = max(self.sent, traffic.acknowledged)  # what was acknowledged besides answers is no credit
            self.unread = self.sent - traffic.acknowledged
        return self.unread


@dataclass(frozen=True)
class _Watched:
    """A socket whose connections are followed."""

    domain: Domain
    monitor: Monitor
    on_closed: Callable[[Connection], object]


class Connections:
    """The connections of the daemon's sockets, watched by a thread. `severed`: how many had to go, by reason."""

    def __init__(
        self,
        context: zmq.Context[Any],
        on_failed_handshake: Callable[[Domain, int, int], object] = lambda *_: None,
    ) -> None:
        """`context`: one with blocking sockets. `on_failed_handshake` is told domain, event and value of each handshake that
        failed, in the watching thread.
        """
        self.severed: Counter[str] = Counter()
        self.limit = limit_of_connections()
        self._context = context
        self._on_failed_handshake = on_failed_handshake
        self._lock = threading.Lock()
        self._open: dict[int, Connection] = {}
        self._unread_in_all = 0
        self._sockets: list[_Watched] = []
        self._arrivals = Arrivals()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="connections", daemon=True)

    # What sockets do with it

    def watch(
        self, socket: zmq.Socket[Any], domain: Domain, on_closed: Callable[[Connection], object] = lambda _: None
    ) -> None:
        """Follow a socket's connections, and bound what the kernel holds for each. Call before it is bound, and before `start`.

        `on_closed` is told each connection that is gone, in the watching thread.
        """
        socket.setsockopt(zmq.RCVBUF, LIMITS[domain].buffer)
        self._sockets.append(_Watched(domain, Monitor(self._context, socket, EVENTS), on_closed))

    def start(self) -> None:
        """Begin to watch, once all sockets are bound."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; once the sockets are closed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for watched in self._sockets:
            watched.monitor.close()
        self._arrivals.close()

    # What is asked of it

    @property
    def facts(self) -> dict[str, int]:
        """For the status."""
        return {"connections": len(self._open), "connections_cut_off": self.severed.total()}

    def find(self, descriptor: int, domain: Domain) -> Connection | None:
        """The connection with this descriptor; None if it is gone."""
        found = self._open.get(descriptor)
        return found if found is not None and found.domain == domain else self._add(descriptor, domain)

    def sever(self, connection: Connection, reason: str) -> None:
        """Cut a connection off, count it and say so, once."""
        if connection.severed:
            return
        connection.severed = True
        if tcp.sever(connection.descriptor, connection.family, connection.peer):
            self.severed[reason] += 1
            log.log(
                logging.WARNING if self.severed[reason] == 1 else logging.DEBUG,
                "a connection of %s to the %s socket was cut off: %s",
                connection.peer,
                connection.domain,
                reason,
            )

    def keep_only(self, users: Set[str], unknown_too: bool) -> None:
        """Cut off every connection whose public key is not among `users`; with `unknown_too`, also those that have not shown
        their key yet.
        """
        with self._lock:
            found = [c for c in self._open.values() if (unknown_too if c.user is None else c.user not in users)]
        for connection in found:
            self.sever(connection, "its key is not allowed, or was not known when another one was revoked")

    def room_for(self, connection: Connection, size: int) -> bool:
        """Whether `size` bytes of answers may be sent to a connection. Where all connections together leave too many answers
        unread, those that leave most have to go.
        """
        with self._lock:
            if connection.unread + size > FEW_BYTES:
                self._look_at(connection)
            if connection.unread + size > (MAX_UNREAD_BYTES if size > FEW_BYTES else MAX_UNREAD_BYTES + FEW_BYTES):
                return False  # but there is room to say so
            if self._unread_in_all + size <= MAX_UNREAD_BYTES_IN_ALL:
                return True
            for other in self._open.values():
                self._look_at(other)
            excess = self._unread_in_all + size - MAX_UNREAD_BYTES_IN_ALL
            largest_first = sorted(self._open.values(), key=lambda other: -other.unread)
        for other in largest_first:
            if excess <= 0:
                break
            excess -= other.unread
            self.sever(other, "it does not read its answers, and memory for answers is full")
        return not connection.severed

    def note_sent(self, connection: Connection, size: int) -> None:
        """Count an answer."""
        with self._lock:
            connection.sent += size
            connection.unread += size
            self._unread_in_all += size

    def _look_at(self, connection: Connection) -> None:
        before = connection.unread
        self._unread_in_all += connection.look_at_unread() - before

    # The thread

    def _watch(self) -> None:
        for watched in self._sockets:
            self._arrivals.wake_on(watched.monitor.socket.fileno())
        while not self._stopping.is_set():
            arrived = self._arrivals.wait(WAIT_S)
            for watched in self._sockets:
                self._read_events(watched)
            with self._lock:
                active = [self._open[descriptor] for descriptor in arrived if descriptor in self._open]
            self._check(active)
            self._stopping.wait(PAUSE_S)

    def _read_events(self, watched: _Watched) -> None:
        for event, value in watched.monitor.waiting():
            if event == zmq.EVENT_ACCEPTED:
                self._remove(value)  # libzmq does not tell of every connection that closes
                self._add(value, watched.domain)
                self._make_room()
            elif event == zmq.EVENT_DISCONNECTED:
                self._remove(value)
            else:
                self._on_failed_handshake(watched.domain, event, value)

    def _add(self, descriptor: int, domain: Domain) -> Connection | None:
        try:
            family = tcp.family(descriptor)
            connection = Connection(descriptor, domain, family, tcp.peer(descriptor, family))
        except OSError:  # it is gone already
            return None
        with self._lock:
            connection = self._open.setdefault(descriptor, connection)
        self._arrivals.follow(descriptor)
        return connection

    def _remove(self, descriptor: int) -> None:
        with self._lock:
            gone = self._open.pop(descriptor, None)
            self._unread_in_all -= gone.unread if gone is not None else 0
        for watched in self._sockets:
            if gone is not None and watched.domain == gone.domain:
                watched.on_closed(gone)

    def _make_room(self) -> None:
        if len(self._open) <= self.limit:
            return
        with self._lock:
            drawn = random.sample(list(self._open.values()), min(CANDIDATES, len(self._open)))
        now = time.monotonic()
        unfinished = [c for c in drawn if c.measure(now) and c.received <= HANDSHAKE_BYTES]
        victim = (unfinished or drawn)[0]
        self.sever(victim, f"there are more than {self.limit} connections")
        self._remove(victim.descriptor)

    def _check(self, active: list[Connection]) -> None:
        """Measure connections on which something has arrived, and cut off those that send faster than is read."""
        now = time.monotonic()
        for connection in active:
            if connection.measure(now) and connection.backlog > LIMITS[connection.domain].of_one:
                self.sever(connection, f"it sent {LIMITS[connection.domain].of_one >> 10} kB faster than they could be read")
        for domain in {connection.domain for connection in active}:
            self._bound_all(domain, now)

    def _bound_all(self, domain: Domain, now: float) -> None:
        with self._lock:
            behind = [c for c in self._open.values() if c.domain == domain and c.backlog and not c.severed]
        if sum(connection.backlog for connection in behind) <= LIMITS[domain].of_all:
            return
        measured = [connection for connection in behind if connection.measure(now)]
        excess = sum(connection.backlog for connection in measured) - LIMITS[domain].of_all
        for connection in sorted(measured, key=lambda one: -one.backlog):
            if excess <= 0:
                break
            excess -= connection.backlog
            self.sever(connection, "it sent most while all clients together sent faster than could be read")


def limit_of_connections() -> int:
    """Connections that the limit on open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, int(soft * SHARE_OF_DESCRIPTORS) - DESCRIPTORS_KEPT))
