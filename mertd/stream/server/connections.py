"""Every connection that the daemon's sockets have accepted: counted, measured, and severed when it takes more than its share.

libzmq bounds its queues in complete messages. It does not bound a message of endless parts, the topics of a subscriber, or the
bytes of replies that nobody reads; and it cannot drop one connection. Bounding its receive queues would make matters worse:
with a finite one, libzmq 4.3.5 aborts the process if a peer fills the queue, sends a ZMTP PING and resets the connection (an
assertion in `out_event`; libzmq issues 3937, 4364, 4767 and 4841 are of the same kind). So the receive queues have no limit of
their own, and this file sets one, in bytes, by what the kernel counts for each connection.

What a connection has sent and the daemon has not read is worked off by libzmq when the connection is gone, too: a single `recv`
goes through all of it, and does not return while more comes. So while too much is left behind, new connections wait (see
`admission.py`).

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
from dataclasses import dataclass
from typing import Any

import zmq

from mertd.stream.curve_keys import Domain
from mertd.stream.monitor import FAILED, Monitor
from mertd.stream.server import tcp
from mertd.stream.server.admission import Admission
from mertd.stream.server.arrivals import Arrivals
from mertd.stream.server.connection import BACKLOG_LIMITS, Connection, largest_until
from mertd.stream.server.left_behind import LeftBehind
from mertd.stream.server.unread import UnreadReplies

log = logging.getLogger(__name__)

PAUSE_S = 0.001
"""Shortest time between two looks at connections on which something arrives."""

WAIT_S = 1.0
"""Longest time between two looks, and between two looks at all connections."""

MAX_CONNECTIONS = 2_048
"""Connections of both sockets together, if there are enough descriptors."""

DESCRIPTORS_KEPT = 64
"""Descriptors that clients may never take."""

SHARE_OF_DESCRIPTORS = 0.75
"""Share of the limit on descriptors that clients may take, less `DESCRIPTORS_KEPT`."""

MIN_CONNECTIONS = 16
"""Connections that are allowed however few descriptors there are."""

CANDIDATES = 8
"""Connections that have said nothing, of which one has to go when there are too many."""

EVENTS = FAILED | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


@dataclass
class _Watched:
    """A socket whose connections are followed. `local`: the socket's end of each of them, as `tcp.local` returns it."""

    domain: Domain
    socket: zmq.Socket[Any]
    monitor: Monitor
    on_closed: Callable[[Connection], object]
    local: object = None


class Connections:  # attributes: its thread, what that shares with the event loop under one lock, and the parts it asks
    """The connections of the daemon's sockets, watched by a thread. `severed`: how many were cut off, by reason."""

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
        self._unread = UnreadReplies()
        self.left_behind = LeftBehind()
        self._sockets: list[_Watched] = []
        self._admission: Admission | None = None
        self._arrivals = Arrivals()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="connections", daemon=True)

    def watch(
        self, socket: zmq.Socket[Any], domain: Domain, on_closed: Callable[[Connection], object] = lambda _: None
    ) -> None:
        """Follow a socket's connections, and bound what the kernel holds for each. Call before it is bound, and before `start`.

        `on_closed` is told each connection that is gone, in the watching thread.
        """
        socket.setsockopt(zmq.RCVBUF, BACKLOG_LIMITS[domain].buffer)
        if not socket.getsockopt(zmq.CURVE_SERVER):
            self._admission = self._admission or Admission(self._context)
            self._admission.guard(socket, domain)
        self._sockets.append(_Watched(domain, socket, Monitor(self._context, socket, EVENTS), on_closed))

    def start(self) -> None:
        """Begin to watch, once all sockets are bound."""
        for watched in self._sockets:
            watched.local = tcp.local_of(watched.socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self._thread.start()

    def close(self) -> None:
        """Stop watching, once the sockets are closed."""
        self._stopping.set()
        self._arrivals.wake()
        if self._thread.is_alive():
            self._thread.join()
        for watched in self._sockets:
            watched.monitor.close()
        if self._admission is not None:
            self._admission.close()
        self._arrivals.close()

    @property
    def facts(self) -> dict[str, int]:
        """What the status says of connections. Raises `RuntimeError` if nobody watches them any more, which is a bug."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stopping.is_set():
            raise RuntimeError("the thread that watches connections has ended")
        return {"connections": len(self._open), "connections_cut_off": self.severed.total()}

    # Called in the event loop

    def find(self, descriptor: int, domain: Domain) -> Connection | None:
        """Return the connection with this descriptor; None if it is gone."""
        found = self._open.get(descriptor)
        if found is not None and found.domain == domain:
            return found
        for watched in self._sockets:  # its first message has come sooner than the event that it was accepted
            if watched.domain == domain:
                return self._add(descriptor, watched)
        return None

    def sever(self, connection: Connection, reason: str) -> None:
        """Cut a connection off, count it and log it, once."""
        if connection.severed:
            return
        connection.severed = True
        if tcp.sever(connection.descriptor, connection.family, connection.peer):
            self.severed[reason] += 1
            level = logging.WARNING if self.severed[reason] == 1 else logging.DEBUG
            log.log(level, "connection from %s to the %s socket cut off: %s", _name(connection), connection.domain, reason)

    def keep_only(self, users: Set[str], unknown_too: bool) -> None:
        """Cut off every connection whose public key is not among `users`; with `unknown_too`, also those that have not shown
        their key yet.
        """
        with self._lock:
            found = [c for c in self._open.values() if (unknown_too if c.user is None else c.user not in users)]
        for connection in found:
            self.sever(connection, "its key is not allowed, or was not known when another one was revoked")

    def make_room(self, connection: Connection, size: int) -> bool:
        """Return whether a reply of `size` bytes may be sent. Where all connections together leave too much unread, those that
        leave most are cut off.
        """
        with self._lock:
            if self._open.get(connection.descriptor) is not connection:  # it has gone, and its descriptor may be another's
                return not connection.severed
            if not self._unread.allows(connection, size):
                return False
            in_the_way = self._unread.in_the_way(self._open.values(), size)
        for other in in_the_way:
            self.sever(other, "it does not read its replies, and the memory for replies is full")
        return not connection.severed

    def note_sent(self, connection: Connection, size: int) -> None:
        """Count a reply of `size` bytes, unless the client has gone meanwhile: it would count for ever."""
        with self._lock:
            if self._open.get(connection.descriptor) is connection:
                self._unread.add(connection, size)

    # The watching thread

    def _watch(self) -> None:
        for watched in self._sockets:
            self._arrivals.wake_on(watched.monitor.socket.fileno())
        if self._admission is not None:
            self._arrivals.wake_on(self._admission.fileno())
        arrived: set[int] = set()
        all_measured_at = time.monotonic()
        while not self._stopping.is_set():
            for watched in self._sockets:  # before the wait, because libzmq signals only events after a look that found none
                self._read_events(watched)
            with self._lock:
                if time.monotonic() - all_measured_at > WAIT_S:  # what libzmq reads at once may not be reported as an arrival
                    all_measured_at = time.monotonic()
                    arrived = set(self._open)
                active = [self._open[descriptor] for descriptor in arrived if descriptor in self._open]
            self._check(active)
            some_wait = self._admission is not None and self._admission.admit(self.left_behind.is_little)
            self._stopping.wait(PAUSE_S)
            arrived = self._arrivals.wait(PAUSE_S if some_wait else WAIT_S)

    def _read_events(self, watched: _Watched) -> None:
        for event, value in watched.monitor.waiting():
            if event == zmq.EVENT_ACCEPTED:
                self._add(value, watched)
                self._keep_within_limit(value)
            elif event == zmq.EVENT_DISCONNECTED:
                if value in self._open and self._open[value].domain == watched.domain:  # not the next owner's
                    self._remove(value)
            else:
                self._on_failed_handshake(watched.domain, event, value)

    def _add(self, descriptor: int, watched: _Watched) -> Connection | None:
        """Note a connection, unless it is known, and return it; None if the descriptor is no connection of this socket."""
        try:
            family = tcp.family(descriptor)
            if tcp.local(descriptor, family) != watched.local:
                return None
            connection = Connection(descriptor, watched.domain, family, tcp.peer(descriptor, family))
        except OSError:
            return None
        known = self._open.get(descriptor)
        if known is not None and known.peer == connection.peer and known.domain == watched.domain:
            return known
        self._remove(descriptor)  # libzmq does not report every connection that closes
        with self._lock:
            self._open[descriptor] = connection
        self._arrivals.follow(descriptor)
        return connection

    def _remove(self, descriptor: int) -> None:
        with self._lock:
            gone = self._open.pop(descriptor, None)
            if gone is None:
                return
            self._unread.forget(gone)
            self.left_behind.add(gone)
        for watched in self._sockets:
            if watched.domain == gone.domain:
                watched.on_closed(gone)

    def _keep_within_limit(self, newest: int) -> None:
        """Cut one off if there are too many: among the oldest that have said nothing one without a handshake, or any."""
        if len(self._open) <= self.limit:
            return
        with self._lock:
            others = [connection for descriptor, connection in self._open.items() if descriptor != newest]
        silent = [one for one in others if not one.read][:CANDIDATES]
        unfinished = (one for one in silent if one.measure(time.monotonic()) and not one.shook_hands)
        victim = next(unfinished, silent[0] if silent else random.choice(others))
        self.sever(victim, f"there are more than {self.limit} connections")
        self._remove(victim.descriptor)

    def _check(self, active: list[Connection]) -> None:
        """Measure connections on which something has arrived, and cut off those that send faster than is read."""
        now = time.monotonic()
        for connection in active:
            if connection.measure(now) and connection.is_behind:
                limit = BACKLOG_LIMITS[connection.domain].of_one
                self.sever(connection, f"it sent {limit >> 10} kB faster than they could be read")
        for domain in {connection.domain for connection in active}:
            self._bound_all(domain, now)

    def _bound_all(self, domain: Domain, now: float) -> None:
        with self._lock:
            behind = [c for c in self._open.values() if c.domain == domain and c.backlog and not c.severed]
        limit = BACKLOG_LIMITS[domain].of_all
        if sum(connection.backlog for connection in behind) <= limit:
            return
        measured = [connection for connection in behind if connection.measure(now)]
        excess = sum(connection.backlog for connection in measured) - limit
        for connection in largest_until(measured, lambda one: one.backlog, excess):
            self.sever(connection, "it sent most, while all clients together sent faster than could be read")


def _name(connection: Connection) -> str:
    """Return the peer's address in words."""
    if isinstance(connection.peer, tuple):
        return f"{str(connection.peer[0]).removeprefix('::ffff:')}:{connection.peer[1]}"
    return str(connection.peer)


def limit_of_connections() -> int:
    """Return how many connections the limit on open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, int(soft * SHARE_OF_DESCRIPTORS) - DESCRIPTORS_KEPT))
