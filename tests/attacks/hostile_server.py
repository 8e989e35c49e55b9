"""A server that attacks the clients that come to it, and speaks ZMTP by hand."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgpack

from attacks.zmtp import GREETING_BYTES, MORE, claim, frame, greeting, ping, ready
from mertd.wire import encode
from messages import embedding

MEGABYTE = 1 << 20
HUGE = 500 * MEGABYTE

Behaviour = Callable[[socket.socket, threading.Event], None]
"""What is done with a client that has shaken hands, until it hangs up (`OSError`) or the event is set."""


class HostileServer:
    """Accepts clients on a port of this machine, and does the same to each. A context manager."""

    def __init__(self, kind: bytes, behaviour: Behaviour) -> None:
        """`kind`: type of the socket that it claims to be."""
        self._kind = kind
        self._behaviour = behaviour
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(0.5)
            client.sendall(greeting())
            received = b""
            while len(received) <= GREETING_BYTES:  # the greeting, and the beginning of READY
                data = client.recv(4_096)
                if not data:
                    return
                received += data
            client.sendall(ready(self._kind))
            self._behaviour(client, self._over)


def send(client: socket.socket, data: bytes, over: threading.Event) -> None:
    """Send all of `data`, however slowly it is taken."""
    view = memoryview(data)
    while view and not over.is_set():
        with contextlib.suppress(TimeoutError):
            view = view[client.send(view) :]


def message(seq: int) -> bytes:
    """Return an embedding as it is sent."""
    topic, payload = encode(embedding(seq))
    return frame(topic, MORE) + frame(payload)


def huge_frames(client: socket.socket, over: threading.Event) -> None:
    """A frame of 500 MB."""
    send(client, frame(b"embedding/room/", MORE) + claim(HUGE), over)
    for _ in range(HUGE // MEGABYTE):
        send(client, bytes(MEGABYTE), over)


def huge_answers(client: socket.socket, over: threading.Event) -> None:
    """An answer of 500 MB to the first request."""
    send(client, frame(b"", MORE) + claim(HUGE), over)
    for _ in range(HUGE // MEGABYTE):
        send(client, bytes(MEGABYTE), over)


def with_holes(client: socket.socket, over: threading.Event) -> None:
    """Messages with holes, which a client asks the control socket for."""
    for seq in itertools.count(step=5):
        if over.is_set():
            return
        send(client, message(seq), over)
        time.sleep(0.1)


def garbage(client: socket.socket, over: threading.Event) -> None:
    """Messages of random bytes, of too few and too many parts, of other topics; then bytes that are no frames."""
    topic, payload = encode(embedding(0))
    for number in itertools.count():
        if number == 300 or over.is_set():
            break
        parts = [
            frame(topic, MORE) + frame(os.urandom(300)),
            frame(topic),
            frame(topic, MORE) * 5 + frame(payload),
            frame(b"status/", MORE) + frame(payload),
            frame(topic, MORE) + frame(payload[: number % len(payload)]),
            frame(topic, MORE) + frame(msgpack.packb({"schema": 1, "kind": "embedding", "vector": [[]] * 1_000})),
            frame(topic, MORE) + frame(b"\x91" * 100_000),
        ]
        send(client, parts[number % len(parts)], over)
    send(client, os.urandom(10_000), over)


def endless_parts(client: socket.socket, over: threading.Event) -> None:
    """One message of parts without end."""
    burst = frame(b"embedding/room/", MORE) + frame(b"", MORE) * 100_000
    while not over.is_set():
        send(client, burst, over)


def large_messages(client: socket.socket, over: threading.Event) -> None:
    """Messages of the largest size that is accepted, as fast as they are taken."""
    burst = frame(b"embedding/room/", MORE) + frame(bytes(MEGABYTE))
    while not over.is_set():
        send(client, burst, over)


def pings_then_reset(client: socket.socket, over: threading.Event) -> None:
    """Fill the queue of a client that naps, send PINGs, and reset the connection."""
    send(client, b"".join(message(seq) for seq in range(3_000)), over)
    deadline = time.monotonic() + 1.0
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < deadline and not over.is_set():
            client.send((ping(ttl=1) + ping()) * 100)
    time.sleep(0.2)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
