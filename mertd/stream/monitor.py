"""What happens to a socket's connections, as libzmq reports it.

Rules of this file: no asyncio, which costs `mertd tail` a tenth of a second.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import zmq

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
"""Events of a handshake that one of the two ends has given up."""

MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
"""Value of such an event if only one of the two ends uses encryption."""

_numbers = itertools.count()


class Monitor:
    """The events of one socket, on a PAIR socket."""

    def __init__(self, context: zmq.Context[Any], watched: zmq.Socket[Any], events: int) -> None:
        """`events`: which to report. Make it before `watched` is bound or connected, and close it after that is closed."""
        address = f"inproc://mertd.monitor.{next(_numbers)}"
        watched.monitor(address, events)
        self.socket: Any = context.socket(zmq.PAIR)  # blocking or not, as the context is
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)  # a full queue would stop libzmq's own thread
        self.socket.connect(address)

    @staticmethod
    def parse(frames: list[bytes]) -> tuple[int, int]:
        """Return event and value: 16 and 32 bits in the machine's order."""
        event, value = struct.unpack("=HI", frames[0])
        return event, value

    def waiting(self) -> Iterator[tuple[int, int]]:
        """Yield the events that have come, without waiting for more."""
        while self.socket.poll(0):
            yield self.parse(self.socket.recv_multipart())

    def close(self) -> None:
        self.socket.close()


def is_cryptographic(value: int) -> bool:
    """Return whether a handshake failed because something could not be decrypted."""
    return value == int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
