"""ZMTP 3.0 and 3.1 spoken by hand, over a plain TCP socket, so that an attack can say what libzmq would not.

https://rfc.zeromq.org/spec/23/ is ZMTP 3.0 and https://rfc.zeromq.org/spec/37/ is ZMTP 3.1. Only the NULL mechanism is spoken.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

GREETING_BYTES = 64
MORE = 0x01
LONG = 0x02
COMMAND = 0x04

CONNECT_S = 2.0
"""Seconds after which an attacker gives up connecting, shaking hands or sending, and begins anew."""


def greeting(minor: int = 1, mechanism: bytes = b"NULL", as_server: bool = False) -> bytes:
    """Return the greeting of ZMTP 3.`minor`."""
    signature = b"\xff" + bytes(8) + b"\x7f"
    return signature + bytes([3, minor]) + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def frame(payload: bytes, flags: int = 0) -> bytes:
    """Return one frame of a message or a command."""
    if len(payload) < 256:
        return bytes([flags, len(payload)]) + payload
    return bytes([flags | LONG]) + struct.pack(">Q", len(payload)) + payload


def claim(size: int, flags: int = 0) -> bytes:
    """Return the head of a frame that claims `size` bytes."""
    return bytes([flags | LONG]) + struct.pack(">Q", size)


def command(name: bytes, payload: bytes = b"") -> bytes:
    """Return a command."""
    return frame(bytes([len(name)]) + name + payload, COMMAND)


def ping(ttl: int = 0, context: bytes = b"") -> bytes:
    """Return a PING. `ttl`: tenths of a second after which the other end is to give up on us; 0 for never."""
    return command(b"PING", struct.pack(">H", ttl) + context)


def ready(kind: bytes) -> bytes:
    """Return the READY command of a socket of this type."""
    properties = [(b"Socket-Type", kind), (b"Identity", b"")]
    return command(b"READY", b"".join(bytes([len(k)]) + k + struct.pack(">I", len(v)) + v for k, v in properties))


class Peer:
    """One connection to a port of this machine, with or without the handshake."""

    def __init__(self, port: int, kind: bytes = b"DEALER", minor: int = 1, receive_buffer: int | None = None) -> None:
        """Connect, and shake hands unless `kind` is empty. Raises `OSError` if the other end hangs up or takes too long."""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(CONNECT_S)
        try:
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.connect(("127.0.0.1", port))
            if kind:
                self.send(greeting(minor))
                self.receive(GREETING_BYTES)
                self.send(ready(kind))
                self.receive_frame()
        except BaseException:
            self.close()
            raise

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, count: int) -> bytes:
        """Return exactly `count` bytes. Raises `OSError` if the other end hangs up."""
        received = b""
        while len(received) < count:
            data = self.socket.recv(count - len(received))
            if not data:
                raise ConnectionError("the other end has hung up")
            received += data
        return received

    def receive_frame(self) -> bytes:
        """Return the payload of the next frame."""
        flags = self.receive(1)[0]
        size = struct.unpack(">Q", self.receive(8))[0] if flags & LONG else self.receive(1)[0]
        return self.receive(size)

    def reset(self) -> None:
        """Close the connection with RST, whatever is still under way."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
