"""What is written to the bus in one go: which of it is there already, and with which headers the rest goes.

Rules of this file: no socket, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mertd.bus.bus_holes import BusHole, too_large
from mertd.bus.message_id import HEADER, BusId, HoleId, id_of
from mertd.bus.relayed_message import payload_of
from mertd.bus.subjects import Subject
from mertd.errors import BusError
from mertd.stream.client.sequence import EARLIEST_NS
from mertd.wire import Embedding, Event, encode

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
"""Header: the server refuses the message if the last one on its subject has another number."""

HEADER_BYTES = 600
"""Bytes that the headers of a message take, at most, unless its stream has a long name."""

ORDINARY_BYTES = 64 << 10
"""Bytes that any bus has to take: thirteen layers are 40 kB. Larger ones may be left out, and are announced as a hole."""


@dataclass(frozen=True)
class Tail:
    """What a subject ends with. `sequence`: its number in the JetStream stream, 0 if there is nothing."""

    sequence: int = 0
    boot: bytes = b""
    next_seq: int = 0  # of its run
    text: str = ""  # of the last identity
    when_ns: int = EARLIEST_NS  # when the message was heard, if that was read

    def has(self, identity: BusId) -> bool:
        """Return whether a message is there already, as far as the tail tells."""
        if isinstance(identity, HoleId):
            return self.text == str(identity)
        return self.boot == identity.boot and identity.seq < self.next_seq


def tail_of(sequence: int, identity: BusId) -> Tail:
    """Return the tail that a message leaves."""
    return Tail(sequence, identity.boot, identity.next_seq, str(identity))


@dataclass(frozen=True)
class Outgoing:
    """A message as it is sent, but for what the server is to expect."""

    subject: str
    identity: BusId
    payload: bytes

    def headers(self, expected: int | None) -> dict[str, str]:
        """Return its headers. `expected`: the number of the last message on its subject; None for any."""
        found = {HEADER: str(self.identity)}
        return found if expected is None else {**found, EXPECTED: str(expected)}


@dataclass(frozen=True)
class Relayed:
    """A message of a daemon, and the holes before it. Without a message, only holes: `behind` says when they were noticed."""

    message: Embedding | Event | None
    holes: tuple[BusHole, ...] = ()
    behind: Event | None = None

    @property
    def subjects(self) -> Iterator[str]:
        """Where it goes to."""
        for hole in self.holes:
            yield str(Subject(hole.daemon, hole.stream, "event"))
        if self.message is not None:
            yield str(Subject(self.message.daemon, self.message.stream, self.message.kind))
            yield str(Subject(self.message.daemon, self.message.stream, "event"))  # if it has to be announced as a hole


@dataclass
class Batch:
    """Messages in the order in which they are to be stored. `tails`: of their subjects."""

    tails: dict[str, Tail]
    limit: int  # bytes of a message and its headers
    outgoing: list[Outgoing] = field(default_factory=list)
    known: int = 0  # messages that are there already
    _ends: dict[str, Tail] = field(default_factory=dict)  # as they will be

    def add(self, items: Iterable[Relayed]) -> None:
        """Take what is not there yet. Raises `BusError` if the bus does not take messages of an ordinary size."""
        for item in items:
            message = item.message
            subject = "" if message is None else str(Subject(message.daemon, message.stream, message.kind))
            if message is not None and self._end(subject).has(id_of(message)):
                self.known += 1
                continue
            holes, behind = item.holes, message or item.behind
            assert behind is not None
            payload = b"" if message is None else payload_of(message)
            if message is not None and len(payload) + len(subject) + HEADER_BYTES > self.limit:
                if len(payload) <= ORDINARY_BYTES:
                    raise BusError(
                        f"the bus takes messages of at most {self.limit} bytes, and this one of {message.stream!r:.100} has "
                        f"{len(payload)}; raise max_payload of the server, or max_msg_size of the stream"
                    )
                holes, message = (*holes, too_large(message)), None
            for hole in holes:
                place = str(Subject(hole.daemon, hole.stream, "event"))
                end = self._end(place)
                identity = hole.id(end.next_seq if end.boot == hole.boot else 0)
                if not end.has(identity):
                    self._append(Outgoing(place, identity, encode(hole.event(behind))[1]))
            if message is not None:
                self._append(Outgoing(subject, id_of(message), payload))

    def _append(self, one: Outgoing) -> None:
        self.outgoing.append(one)
        self._ends[one.subject] = tail_of(0, one.identity)

    def _end(self, subject: str) -> Tail:
        return self._ends.get(subject) or self.tails.get(subject) or Tail()


def side_by_side(outgoing: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield groups, one after the other, in which each subject occurs once, and a hole only at the end."""
    group: list[Outgoing] = []
    for one in outgoing:
        if group and (isinstance(group[-1].identity, HoleId) or any(one.subject == other.subject for other in group)):
            yield group
            group = []
        group.append(one)
    if group:
        yield group
