"""The memory of many rooms: filled from a bus, with the messages of all daemons there.

The place on the bus is stored in the transaction that stores the messages, so a process that is killed continues exactly behind
what is on the disk. A file that is damaged takes its place with it, and what it held is read from the bus again. What is on the
bus twice is stored once: the memory knows the numbers of each run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_decoder import BusDecoder
from mertd.bus.bus_stream import STREAM
from mertd.bus.nats_extra import check_nats_extra
from mertd.bus.reading_thread import ReadingThread
from mertd.bus.stream_consumer import StreamPlace
from mertd.bus.stream_reader import Reading
from mertd.bus.subjects import ALL
from mertd.memory.amounts import Keep
from mertd.memory.store import MAX_FILE, Store
from mertd.stream.client.inbox import Received
from mertd.wire import Embedding, Event


@dataclass(frozen=True)
class BusFollowing:
    """Which bus to follow, and where to remember. `stream`: name of the JetStream stream."""

    folder: Path
    access: BusAccess
    stream: str = STREAM
    keep: Keep = Keep()  # noqa: RUF009 - frozen
    max_file: int = MAX_FILE  # bytes after which another file begins
    is_shared: ClassVar[bool] = True
    controls: ClassVar[None] = None
    keys: ClassVar[None] = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (str(self.access),)

    def subscribe(self, store: Store) -> BusSource:
        """Begin to read behind what is stored. Raises `BusError` if the extra is missing."""
        check_nats_extra()
        return BusSource(self, store.place(self._place_name))

    @property
    def _place_name(self) -> str:
        return f"nats {self.stream}"

    def places(self, place: StreamPlace | None) -> Mapping[str, str]:
        """Return a place as it is stored."""
        return {} if place is None else {self._place_name: f"{place.created} {place.seq}"}


class BusSource:
    """All messages of a bus, also those that are there twice."""

    refetches = True

    def __init__(self, following: BusFollowing, stored: str | None) -> None:
        """Begin to read. `stored`: the place as it was stored; without one, the stream's first message."""
        self._following = following
        self._place = None if stored is None else _parsed(stored)
        self._decoder = BusDecoder()
        reading = Reading(following.access, following.stream, (ALL,), self._place, since_ns=0)
        self._thread = ReadingThread(reading)

    @property
    def recovered(self) -> int:
        return 0

    def places(self) -> Mapping[str, str]:
        return self._following.places(self._place)

    def receive(self, timeout_s: float | None = None) -> Received | None:
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while (stored := self._thread.take()) is not None:
                self._place = stored.place
                message = self._decoder.message(stored)
                if isinstance(message, Embedding | Event):
                    return Received(message, 0, self._following.endpoints[0])
            if time.monotonic() >= deadline:
                return None
            self._thread.wait(deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self._thread.stop()


def _parsed(stored: str) -> StreamPlace:
    created, seq = stored.rsplit(" ", 1)
    return StreamPlace(created, int(seq))
