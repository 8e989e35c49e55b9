"""ZMTP 3.1 spoken by hand, for what no ZeroMQ library would send (https://rfc.zeromq.org/spec/37/)."""

from __future__ import annotations

import socket
import struct

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
"""Signature, version 3.1, mechanism NULL, as client."""

PING = b"\x04\x07\x04PING\x00\x00"
"""A PING command without a time to live and without a context."""

TIMEOUT_S = 30.0


def connect(endpoint: str, kind: bytes) -> socket.socket:
    """A connection of a socket of this kind, behind its handshake."""
    port = int(endpoint.rpartition(":")[2])
    found = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    found.sendall(GREETING)
    receive(found, 64)
    properties = b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind + b"\x08Identity" + struct.pack(">I", 0)
    body = b"\x05READY" + properties
    found.sendall(b"\x04" + bytes([len(body)]) + body)
    head = receive(found, 2)
    receive(found, head[1])
    return found


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        assert more, "the connection was closed"
        found += more
    return found


def frame(data: bytes, more: bool = False) -> bytes:
    """A frame of a message."""
    if len(data) < 256:
        return bytes([more, len(data)]) + data
    return bytes([more | 2]) + struct.pack(">Q", len(data)) + data


def reset(connection: socket.socket) -> None:
    """Close a connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end closes the connection, whatever it still sends."""
    connection.settimeout(TIMEOUT_S)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
