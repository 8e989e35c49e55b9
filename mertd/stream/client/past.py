"""What was published before a client came, or while it was away: over all runs of a daemon, from the daemon's memory.

Rules of this file: no socket, no clock. Requests are yielded, and answered with what was found; so the same code serves threads
and event loops. Messages of each kind and stream come in order, run by run; all together come by time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field

from mertd.stream.client.sequence import COUNTERS, EARLIEST_NS, Cursor, Found, MissingRange, Sequence, start_ns
from mertd.wire import Embedding, Event, Message, Status

END = (1 << 63) - 1
"""Above the `seq` of all messages."""

Key = tuple[str, str]
"""Kind and stream."""


@dataclass(frozen=True)
class Place:
    """The next message: of this run, with this `seq`. `when_ns`: it is not earlier, if no clock was set."""

    boot: bytes
    seq: int
    when_ns: int = EARLIEST_NS


Places = Mapping[Key, Place]
"""Where a client is in what one daemon publishes."""


@dataclass(frozen=True)
class NextRun:
    """A request for the first messages since a time of the earliest run that has any.

    `after`: for the first messages of the first run after this one, if the daemon knows it.
    """

    kind: str
    stream: str
    since_ns: int
    after: bytes | None

    def has(self, message: Message) -> bool:
        """Return whether a message may be an answer."""
        if not isinstance(message, Embedding | Event):
            return False
        return (message.kind, message.stream) == (self.kind, self.stream) and message.boot != self.after


Asked = MissingRange | NextRun
Deliver = Callable[[Embedding | Event, int], None]
"""Is given a message, and how many before it are lost."""


@dataclass
class _Chain:
    """What is still to come of a kind and stream.

    `request`: asks for the next page; None if there is none. `next`: of the run whose messages come, the `seq` after the last.
    """

    request: Asked | None
    next: Place | None = None
    waiting: deque[Embedding | Event] = field(default_factory=deque)
    runs: set[bytes] = field(default_factory=set)  # of which something has come

    def take(self, found: Found) -> None:
        """Take the answer to `request`, and prepare the next one."""
        asked = self.request
        assert asked is not None
        if isinstance(asked, NextRun) and (not found.messages or found.messages[0].boot in self.runs):
            self.request = None
            return
        self.waiting.extend(found.messages)
        self.runs |= {message.boot for message in found.messages}
        if found.more and found.messages:
            last = found.messages[-1]
            self.request = MissingRange(last.boot, last.kind, last.stream, last.seq + 1, END)
        else:
            behind = place_after(found.messages[-1]) if found.messages else self.next
            since_ns, boot = (behind.when_ns, behind.boot) if behind is not None else (EARLIEST_NS, None)
            self.request = NextRun(asked.kind, asked.stream, since_ns, boot)

    def lost_before(self, message: Embedding | Event) -> int:
        """Note that a message is delivered. Returns how many before it are missing in its run."""
        expected = message.seq  # nothing is known of the first of all
        if self.next is not None:
            expected = self.next.seq if self.next.boot == message.boot else 0
        self.next = place_after(message)
        return message.seq - expected


class Past:
    """What one daemon published from some places on, or since a time."""

    def __init__(self, places: Places | None, since_ns: int | None) -> None:
        """`places`: where to continue. `since_ns`: where to begin with kinds and streams of which there is no place; None: with
        what comes, or if there are places, with the runs behind them.
        """
        self._places = dict(places or {})
        self._since_ns = since_ns

    def requests(
        self, status: Status, kinds: Iterable[str], streams: tuple[str, ...], deliver: Deliver
    ) -> Generator[Asked, Found, Cursor]:
        """Deliver all that was published before now, and return what is expected after it.

        `status`: the daemon's, from which it is known what streams it has.
        """
        chains: dict[Key, _Chain] = {}
        for stream in streams or dict.fromkeys((*status.streams, *(stream for _, stream in self._places))):
            for kind in kinds:
                if kind in COUNTERS:
                    chains[kind, stream] = self._chain(kind, stream)
        while True:
            for chain in chains.values():
                while chain.request is not None and not chain.waiting:
                    chain.take((yield chain.request))
            heads = [(_when_ns(chain.waiting[0]), key) for key, chain in chains.items() if chain.waiting]
            if not heads:
                return _expected(status, chains)
            _, key = min(heads)
            chain = chains[key]
            message = chain.waiting.popleft()
            deliver(message, chain.lost_before(message))

    def _chain(self, kind: str, stream: str) -> _Chain:
        place = self._places.get((kind, stream))
        if place is not None:
            return _Chain(MissingRange(place.boot, kind, stream, place.seq, END), place)
        if self._since_ns is not None:
            return _Chain(NextRun(kind, stream, self._since_ns, None))
        if self._places:  # what is new since then is in no run of which there is a place
            latest = next(reversed(self._places.values()))
            return _Chain(NextRun(kind, stream, latest.when_ns, latest.boot))
        return _Chain(None)


def place_after(message: Embedding | Event) -> Place:
    """Return the place behind a message."""
    return Place(message.boot, message.seq + 1, start_ns(message) + 1)


def places_of(sequence: Sequence) -> dict[Key, Place]:
    """Return the places of a client that has heard a run of a daemon."""
    boot, following = sequence.expected
    return {} if boot is None else {key: Place(boot, seq, sequence.heard_ns) for key, seq in following.items()}


def _expected(status: Status, chains: Mapping[Key, _Chain]) -> Cursor:
    """Return the `seq` of the next messages: of the present run, and of one that has begun after this status."""
    found: dict[bytes, dict[Key, int]] = {status.boot: {}}
    for (kind, stream), chain in chains.items():
        counters = status.streams.get(stream)
        end = counters.get(COUNTERS[kind]) if isinstance(counters, dict) else None
        if isinstance(end, int):
            found[status.boot][kind, stream] = end if chain.next is None else 0
        if chain.next is not None:
            found.setdefault(chain.next.boot, {})[kind, stream] = chain.next.seq
    return found


def _when_ns(message: Embedding | Event) -> int:
    return message.time.end_ns if isinstance(message, Embedding) else message.time_ns
