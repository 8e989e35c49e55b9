"""A client's place on a bus, in a file: the number of the next message of the JetStream stream, and of the next of each run.

The file is like that of a client of daemons (mertd/stream/client/cursor_file.py), and as safe. The numbers of the runs are in
it because a message can be on the bus twice, and because another stream may take the place of the one that was read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mertd.bus.bus_numbering import StreamRun
from mertd.bus.stream_consumer import StreamPlace
from mertd.stream.client.place_file import PlaceFile


@dataclass(frozen=True)
class BusPlaces:
    """`place`: the next message of the stream; None before the first. `since_ns`: where to begin without one."""

    place: StreamPlace | None
    runs: Mapping[StreamRun, int]
    since_ns: int | None


class BusCursor:
    """The file of one client.

    Attributes:
        found: what was in it.
    """

    def __init__(self, path: str | os.PathLike[str], stream: str, since_ns: int | None) -> None:
        """Lock and read it. `since_ns`: where to begin if there is no such file.

        Raises `StoreError` if another process uses it, or it is damaged.
        """
        self._file = PlaceFile(path)
        self._key = f"nats:{stream}"
        self._rest: dict[str, Any] = {}  # places in other streams
        self._changes = 0
        self.found = self._file.read(self._parse) or BusPlaces(None, {}, since_ns)

    def _parse(self, body: dict[str, Any]) -> BusPlaces | None:
        self._rest = {key: value for key, value in body.items() if key != self._key}
        if (own := body.get(self._key)) is None:
            return None
        place = StreamPlace(str(own["created"]), int(own["seq"])) if own["created"] else None
        runs = {StreamRun(daemon, stream, kind, bytes.fromhex(boot)): int(n) for daemon, stream, kind, boot, n in own["next"]}
        return BusPlaces(place, runs, own["since_ns"])

    def note_change(self) -> None:
        """Something has changed."""
        self._changes += 1

    @property
    def due_at(self) -> float:
        """Monotonic seconds at which it is to be saved; infinite if nothing has changed."""
        return self._file.due_at(self._changes > 0, self._changes)

    def save(self, places: BusPlaces) -> None:
        """Save, if something has changed. Raises `StoreError`."""
        if not self._changes:
            return
        place = places.place
        own = {
            "created": place.created if place else "",
            "seq": place.seq if place else 0,
            "since_ns": places.since_ns,
            "next": [[run.daemon, run.stream, run.kind, run.boot.hex(), seq] for run, seq in places.runs.items()],
        }
        self._file.write({**self._rest, self._key: own})
        self._changes = 0

    def close(self) -> None:
        """Let other processes use the file."""
        self._file.release()
