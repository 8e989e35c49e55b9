"""What the kernel knows of a connection that libzmq has accepted, given its file descriptor.

Rules of this file: no ZeroMQ, no state. libzmq owns the descriptors: nothing here may close one, and each may be gone, or
belong to another connection, by the time it is looked at. So a connection is recognised by its peer's address before it is
touched.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LINUX_COUNTERS_OFFSET = 120
"""Bytes before `tcpi_bytes_acked` and `tcpi_bytes_received` in Linux's struct tcp_info (linux/tcp.h, since 4.1)."""

DARWIN_CONNECTION_INFO = 0x106
"""TCP_CONNECTION_INFO of XNU's netinet/tcp.h; the socket module has no name for it."""

DARWIN_UNSENT_OFFSET = 32
"""Bytes before `tcpi_snd_sbbytes` in XNU's struct tcp_connection_info."""

DARWIN_COUNTERS_OFFSET = 64
"""Bytes before `tcpi_txbytes`, `tcpi_txretransmitbytes`, `tcpi_rxpackets` and `tcpi_rxbytes` in the same struct."""

INFO_BYTES = 256
"""Room for either struct; the kernel says how much of it it has filled."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of one TCP connection since it began."""

    received: int  # from the peer
    acknowledged: int  # sent to the peer, and taken by its machine


@contextmanager
def _borrowed(descriptor: int, family: int) -> Iterator[socket.socket]:
    """A socket object over a descriptor that stays open afterwards."""
    borrowed = socket.socket(family, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def family(descriptor: int) -> int:
    """Address family of a socket. Raises `OSError` if the descriptor is no socket."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        return int(borrowed.family)
    finally:
        borrowed.detach()


def peer(descriptor: int, family: int) -> object:
    """Address of the other end; for Unix sockets, whose clients have none, the path of this end. Raises `OSError`."""
    with _borrowed(descriptor, family) as borrowed:
        return borrowed.getsockname() if family == socket.AF_UNIX else borrowed.getpeername()


def local(descriptor: int, family: int) -> object:
    """Port of this end of a connection or, for Unix sockets, its path. Raises `OSError`."""
    with _borrowed(descriptor, family) as borrowed:
        name = borrowed.getsockname()
        return name if family == socket.AF_UNIX else name[1]


def local_of(endpoint: str) -> object:
    """What `local` returns for the connections to a bound endpoint."""
    return endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else int(endpoint.rpartition(":")[2])


def traffic(descriptor: int, family: int) -> Traffic | None:
    """Counters of a TCP connection; None where the kernel keeps none, or the connection is gone."""
    if family == socket.AF_UNIX:
        return None
    try:
        with _borrowed(descriptor, family) as borrowed:
            return INFO_READER(borrowed.getsockopt(socket.IPPROTO_TCP, INFO_OPTION, INFO_BYTES))
    except (OSError, struct.error):
        return None


def sever(descriptor: int, family: int, expected_peer: object) -> bool:
    """Shut a connection down in both directions, so that libzmq drops it. False if it is no longer that connection."""
    with contextlib.suppress(OSError):
        if peer(descriptor, family) == expected_peer:
            with _borrowed(descriptor, family) as borrowed:
                if family != socket.AF_UNIX:  # reset when libzmq closes it: a peer that only sends would not notice otherwise
                    borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                borrowed.shutdown(socket.SHUT_RDWR)
            return True
    return False


def read_linux(info: bytes) -> Traffic:
    """The counters in Linux's struct tcp_info. Raises `struct.error` if the kernel is too old to have them."""
    acknowledged, received = struct.unpack_from("=QQ", info, LINUX_COUNTERS_OFFSET)
    return Traffic(received, acknowledged)


def read_darwin(info: bytes) -> Traffic:
    """The counters in XNU's struct tcp_connection_info. Raises `struct.error` if it is shorter."""
    (buffered,) = struct.unpack_from("=I", info, DARWIN_UNSENT_OFFSET)
    sent, sent_again, _, received = struct.unpack_from("=QQQQ", info, DARWIN_COUNTERS_OFFSET)
    return Traffic(received, max(0, sent - sent_again - buffered))


if sys.platform == "linux":
    INFO_OPTION = socket.TCP_INFO
    INFO_READER = read_linux
else:
    INFO_OPTION = DARWIN_CONNECTION_INFO
    INFO_READER = read_darwin
