"""When new connections without encryption may begin to send: one after the other, and only while the daemon keeps up.

libzmq's own thread accepts connections and reads from them, however busy the event loop is, and it never forgets what a
connection has sent, even one that is gone. So clients that flood, are cut off and come back would pile up work without a bound.
libzmq asks a ZAP handler (https://rfc.zeromq.org/spec/27/) before it lets a connection begin, and waits for the answer: this is
the handler, and it answers late rather than not at all. With CURVE the `Authenticator` is asked, in the event loop.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from mertd.stream.curve_keys import ZAP_ADDRESS, Domain

MAX_WAITING = 4_096
"""Connections of a socket that may wait. Older ones are forgotten: libzmq drops them when their handshake takes too long."""

ADMITTED_AT_ONCE = 8
"""Connections of a socket that are let in before it is looked at again how much they send."""


class Admission:
    """The ZAP handler of a context, for one thread. `guard` sockets before they are bound."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._waiting: dict[bytes, deque[list[bytes]]] = {}
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ZAP_ADDRESS)

    def guard(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """Have the connections of a socket wait for their admission. Call before it is bound."""
        self._waiting[domain.encode()] = deque(maxlen=MAX_WAITING)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def fileno(self) -> int:
        """The descriptor that is readable when a connection asks, and perhaps at other times."""
        return int(self._socket.fileno())

    def admit(self, keeps_up: Callable[[Domain], bool]) -> bool:
        """Let those in who wait, where the daemon `keeps_up`. Return whether to call this again soon."""
        again = False
        with contextlib.suppress(zmq.Again):
            while True:
                client, _, version, request, domain, *_ = self._socket.recv_multipart(zmq.NOBLOCK)
                self._waiting[domain].append([client, b"", version, request])
        for domain, waiting in self._waiting.items():
            name: Domain = "publish" if domain == b"publish" else "control"
            if waiting and keeps_up(name):
                for _ in range(min(ADMITTED_AT_ONCE, len(waiting))):
                    self._socket.send_multipart([*waiting.popleft(), b"200", b"OK", b"", b""], zmq.NOBLOCK)
                again = True  # sending may swallow the signal of a connection that has asked meanwhile
        return again or any(self._waiting.values())

    def close(self) -> None:
        """Stop answering, once the sockets are closed."""
        self._socket.close()
