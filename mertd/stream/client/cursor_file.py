"""A client's place in what daemons publish, in a file: after its own restart it continues there.

A message counts as done when the client asks for the next one. The file is replaced in one step, and its content synced to the
disk before: after `SAVE_S` seconds, or `SAVE_MESSAGES` messages, and when the client is closed. So a client that is killed gets
the last of them again: each message at least once, in order. A machine that loses power may come up with an older file.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from mertd.errors import StoreError
from mertd.stream.client.past import Key, Past, Place, place_after
from mertd.stream.client.place_file import PlaceFile
from mertd.text import printable
from mertd.wire import Embedding, Event


@dataclass
class _Followed:
    """One daemon. `since_ns`: where to begin with kinds and streams that have no place yet; None: with what comes."""

    daemon: str = ""
    since_ns: int | None = None
    places: dict[Key, Place] = field(default_factory=dict)


class CursorFile:
    """The file, and a lock beside it: one process at a time may use it."""

    def __init__(self, path: str | os.PathLike[str], since_ns: int | None = None) -> None:
        """Lock and read it. `since_ns`: where to begin with a daemon that is not in it.

        Raises `StoreError` if another process uses it, or it is damaged.
        """
        self._file = PlaceFile(path)
        self.path = self._file.path
        self._since_ns = since_ns
        self._changed = False
        self._unsaved = 0  # messages
        self._followed = self._file.read(lambda body: {endpoint: _from_json(one) for endpoint, one in body.items()}) or {}

    def past(self, endpoint: str) -> Past:
        """Return what is to be fetched from a daemon before what it publishes now."""
        found = self._of(endpoint)
        return Past(found.places, found.since_ns)

    def meet(self, endpoint: str, daemon: str) -> None:
        """Note which daemon is at an endpoint. Raises `StoreError` if it is not the one whose place is known."""
        found = self._of(endpoint)
        if found.daemon not in ("", daemon):
            raise StoreError(
                f"{endpoint} is the daemon {printable(daemon)}, but the place in {self.path} is of {printable(found.daemon)}; "
                "give each daemon a file of its own"
            )
        self._changed = self._changed or found.daemon != daemon
        found.daemon = daemon

    def expect(self, endpoint: str, key: Key, place: Place) -> None:
        """Note where a kind and stream begins, unless it has a place already."""
        places = self._of(endpoint).places
        if key not in places:
            places[key] = place
            self._changed = True

    def arrived(self, endpoint: str) -> None:
        """Note that all kinds and streams of a daemon have a place."""
        self._of(endpoint).since_ns = None
        self._changed = True

    def done(self, endpoint: str, message: Embedding | Event) -> None:
        """Note that the client is done with a message."""
        places = self._of(endpoint).places
        key = (message.kind, message.stream)
        places.pop(key, None)  # the latest place comes last
        places[key] = place_after(message)
        self._changed = True
        self._unsaved += 1

    @property
    def due_at(self) -> float:
        """Monotonic seconds at which the file is to be saved; infinite if nothing has changed."""
        return self._file.due_at(self._changed, self._unsaved)

    def save_if_due(self) -> None:
        """Save what has changed, unless that was done a moment ago. Raises `StoreError`."""
        if time.monotonic() >= self.due_at:
            self.save()

    def save(self) -> None:
        """Save what has changed. Raises `StoreError`."""
        if not self._changed:
            return
        self._file.write({endpoint: _as_json(found) for endpoint, found in self._followed.items()})
        self._changed = False
        self._unsaved = 0

    def close(self) -> None:
        """Save, and let other processes use it. Raises `StoreError`."""
        try:
            self.save()
        finally:
            self._file.release()

    def _of(self, endpoint: str) -> _Followed:
        return self._followed.setdefault(endpoint, _Followed(since_ns=self._since_ns))


def _as_json(found: _Followed) -> dict[str, Any]:
    places = [[*key, place.boot.hex(), place.seq, place.when_ns] for key, place in found.places.items()]
    return {"daemon": found.daemon, "since_ns": found.since_ns, "next": places}


def _from_json(body: dict[str, Any]) -> _Followed:
    rows = body["next"]
    places = {(kind, stream): Place(bytes.fromhex(boot), int(seq), int(when)) for kind, stream, boot, seq, when in rows}
    return _Followed(str(body["daemon"]), body["since_ns"], places)
