"""Identities of messages on the bus, in the header `Nats-Msg-Id`: they say which message it is without its payload.

Rules of this file: pure functions, no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mertd.bus.subjects import name_of, token
from mertd.errors import BusError
from mertd.wire import Embedding, Event

HEADER = "Nats-Msg-Id"
"""The header, which is also what the server tells duplicates by."""

_MESSAGE = re.compile(r"([0-9a-f]{32})\.(embedding|event)\.([^.]+)\.(0|[1-9][0-9]*)")
_HOLE = re.compile(r"([0-9a-f]{32})\.hole\.([^.]+)\.(embedding|event)\.(0|[1-9][0-9]*)-(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class MessageId:
    """A message of a daemon: `BOOT.KIND.STREAM.SEQ`, the run in hexadecimal, the stream as in the subject."""

    boot: bytes
    kind: str
    stream: str
    seq: int

    def __str__(self) -> str:
        return f"{self.boot.hex()}.{self.kind}.{token(self.stream)}.{self.seq}"

    @property
    def next_seq(self) -> int:
        """The `seq` of the next message of its kind."""
        return self.seq + 1


@dataclass(frozen=True)
class HoleId:
    """The announcement that messages with first <= `seq` < end are gone: `BOOT.hole.STREAM.KIND.FIRST-END.NEXT`.

    `next_seq`: of the next event on its subject, as the announcement itself has no number.
    """

    boot: bytes
    stream: str
    kind: str
    first: int
    end: int
    next_seq: int

    def __str__(self) -> str:
        return f"{self.boot.hex()}.hole.{token(self.stream)}.{self.kind}.{self.first}-{self.end}.{self.next_seq}"


BusId = MessageId | HoleId


def id_of(message: Embedding | Event) -> MessageId:
    """Return the identity of a message of a daemon."""
    return MessageId(message.boot, message.kind, message.stream, message.seq)


def parse_id(text: str) -> BusId:
    """Return the identity that is written so. Raises `BusError` if it is not one of ours."""
    if found := _MESSAGE.fullmatch(text):
        boot, kind, stream, seq = found.groups()
        return MessageId(bytes.fromhex(boot), kind, name_of(stream), int(seq))
    if found := _HOLE.fullmatch(text):
        boot, stream, kind, first, end, following = found.groups()
        return HoleId(bytes.fromhex(boot), name_of(stream), kind, int(first), int(end), int(following))
    raise BusError(f"{text!r:.200} is not the id of a message of mertd")
