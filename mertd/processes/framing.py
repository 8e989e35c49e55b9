"""Messages of a `multiprocessing` connection, taken from bytes as they come.

Rules of this file: no process, no pipe. `Connection.recv` waits for the rest of a message that has begun, which may never come.
A program that must not wait reads the bytes and has them parsed here.
"""

from __future__ import annotations

import struct
from multiprocessing.reduction import ForkingPickler
from typing import Any

HEADER = struct.Struct("!i")
"""Length of the message that follows, in bytes, as `Connection.send` writes it."""


class MessageParser:
    """Turns the bytes of one connection into its messages, however they were cut."""

    def __init__(self) -> None:
        self._unparsed = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Take the next bytes, and return the messages that are complete now.

        Raises `ValueError` or an error of `pickle` for bytes that no `Connection` sends; nothing is to be fed after that.
        """
        self._unparsed += data
        messages: list[Any] = []
        begin = 0
        while len(self._unparsed) - begin >= HEADER.size:
            (length,) = HEADER.unpack_from(self._unparsed, begin)
            if length < 0:
                raise ValueError(f"a message of {length} bytes")
            end = begin + HEADER.size + length
            if len(self._unparsed) < end:
                break
            messages.append(ForkingPickler.loads(self._unparsed[begin + HEADER.size : end]))
            begin = end
        del self._unparsed[:begin]
        return messages
