"""What happens to a socket's connections, as libzmq tells it: handshakes that fail, and those that succeed.

Rules of this file: no asyncio, which costs `mertd tail` a tenth of a second.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import zmq

from mertd.errors import EndpointError

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
SEVERAL = 5
"""Handshakes in a row that the other end breaks off: that is its answer, and no accident."""

_numbers = itertools.count()


class Monitor:
    """The events of one socket, on a PAIR socket."""

    def __init__(self, context: zmq.Context[Any], watched: zmq.Socket[Any], events: int) -> None:
        """`events`: which. To be made before the socket is bound or connected, closed when that is closed."""
        address = f"inproc://mertd.monitor.{next(_numbers)}"
        watched.monitor(address, events)
        self.socket: Any = context.socket(zmq.PAIR)  # blocking or not, as the context is
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)  # a full queue would stop libzmq's own thread
        self.socket.connect(address)

    @staticmethod
    def parse(frames: list[bytes]) -> tuple[int, int]:
        """Event and value: 16 and 32 bits in the machine's order."""
        event, value = struct.unpack("=HI", frames[0])
        return event, value

    def waiting(self) -> Iterator[tuple[int, int]]:
        """The events that have come, without waiting for more."""
        while self.socket.poll(0):
            yield self.parse(self.socket.recv_multipart())

    def close(self) -> None:
        self.socket.close()


class Refusals:
    """A client's view of its handshakes."""

    def __init__(
        self, context: zmq.Context[Any], watched: zmq.Socket[Any], endpoint: str, with_keys: bool, several: bool
    ) -> None:
        """`several`: take it for a refusal, too, if handshakes are broken off again and again."""
        events = FAILED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._monitor = Monitor(context, watched, events)
        self._endpoint, self._with_keys, self._several, self._broken_off = endpoint, with_keys, several, 0
        self.socket = self._monitor.socket

    def check(self) -> None:
        """Read what has happened. Raises `EndpointError` if the daemon will not have us, or we will not have it."""
        where = f"at {self._endpoint}"
        while self.socket.poll(0):
            event, value = Monitor.parse(self.socket.recv_multipart())
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._broken_off = 0
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise EndpointError(f"the daemon {where} refuses this key; there, `mertd keys allow NAME PUBLIC` lets us in")
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MISMATCH:
                if self._with_keys:
                    raise EndpointError(
                        f"what answers {where} has no encryption, so nothing was said to it; run it with --curve"
                    )
                raise EndpointError(f"the daemon {where} wants a key: --key NAME, or keys=ClientKeys.load(NAME)")
            else:  # whoever is the first to see that it will not do breaks off, and the other one sees no more than that
                self._broken_off += 1
                if self._several and self._broken_off == SEVERAL:
                    raise EndpointError(f"what answers {where} breaks off the handshake: {self._guess()}")

    def _guess(self) -> str:
        if self._with_keys:
            return "its key is not the one that was given, or it has no encryption; `mertd keys show` there shows the key"
        return "a daemon that wants a key does so: --key NAME, or keys=ClientKeys.load(NAME)"

    def close(self) -> None:
        self._monitor.close()


def is_cryptographic(value: int) -> bool:
    """Whether a handshake failed because something could not be decrypted."""
    return value == int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
