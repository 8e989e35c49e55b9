"""A client's place in what daemons publish, in a file: after its own restart it continues there.

A message counts as done when the client asks for the next one. The file is replaced in one step, and its content synced to the
disk before: after `SAVE_S` seconds, or `SAVE_MESSAGES` messages, and when the client is closed. So a client that is killed gets
the last of them again: each message at least once, in order. A machine that loses power may come up with an older file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import weakref
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mertd.errors import StoreError
from mertd.files import FileError, read_limited, replaceable, replacing
from mertd.stream.client.past import Key, Past, Place, place_after
from mertd.text import printable
from mertd.user_folders import expand_home
from mertd.wire import Embedding, Event

SAVE_S = 0.5
"""Seconds between two replacements of the file, at least."""

SAVE_MESSAGES = 200
"""Messages after which it is replaced sooner."""

VERSION = 1
"""Of the file's format."""

MAX_FILE = 4 << 20
"""Bytes of a file that is read: some ten thousand streams."""


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
        try:
            self.path = replaceable(expand_home(path).absolute())
        except (OSError, FileError) as error:
            raise StoreError(f"the cursor {path} cannot be used: {error}") from error
        self._since_ns = since_ns
        self._saved_at = float("-inf")  # monotonic seconds
        self._changed = False
        self._unsaved = 0  # messages
        # Without `close`, the lock is given back when nothing refers to this any more.
        self._release = weakref.finalize(self, os.close, _lock(self.path))
        try:
            self._followed = _read(self.path)
        except BaseException:
            self._release()
            raise

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
        if self._unsaved >= SAVE_MESSAGES:
            return float("-inf")
        return self._saved_at + SAVE_S if self._changed else float("inf")

    def save_if_due(self) -> None:
        """Save what has changed, unless that was done a moment ago. Raises `StoreError`."""
        if time.monotonic() >= self.due_at:
            self.save()

    def save(self) -> None:
        """Save what has changed. Raises `StoreError`."""
        if not self._changed:
            return
        content = {endpoint: _as_json(found) for endpoint, found in self._followed.items()}
        try:
            with replacing(self.path, 0o600) as file:
                file.write(_packed(content))
        except OSError as error:
            raise StoreError(f"the cursor {self.path} cannot be written: {error.strerror or error}") from error
        self._changed = False
        self._unsaved = 0
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """Save, and let other processes use it. Raises `StoreError`."""
        try:
            self.save()
        finally:
            self._release()

    def _of(self, endpoint: str) -> _Followed:
        return self._followed.setdefault(endpoint, _Followed(since_ns=self._since_ns))


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock. Raises `StoreError`."""
    beside = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"the cursor {path} cannot be locked: {beside}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(f"the cursor {path} is in use by another client; give each client a file of its own") from None
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"the cursor {path} cannot be locked: {error.strerror}; keep it on a local disk") from error
    return descriptor


def _read(path: Path) -> dict[str, _Followed]:
    try:
        content = read_limited(path, MAX_FILE)
    except FileNotFoundError:
        return {}
    except (OSError, FileError) as error:
        raise StoreError(f"the cursor {path} cannot be read: {error}") from error
    try:
        found = json.loads(content)
        version, body = found["mertd_cursor"], found["daemons"]
        if version == VERSION and content == _packed(body):
            return {endpoint: _from_json(one) for endpoint, one in body.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        version = VERSION
    if version != VERSION:
        raise StoreError(f"the cursor {path} is of version {version!r:.20}, and this mertd knows {VERSION}; update mertd")
    raise StoreError(f"{path} is damaged, or is no cursor of mertd; delete it to begin anew, or name another file")


def _packed(body: dict[str, Any]) -> bytes:
    """Return the content of a file, with a checksum: a place that is wrong would lose messages in silence."""
    checksum = zlib.crc32(json.dumps(body).encode())
    return json.dumps({"mertd_cursor": VERSION, "checksum": checksum, "daemons": body}).encode() + b"\n"


def _as_json(found: _Followed) -> dict[str, Any]:
    places = [[*key, place.boot.hex(), place.seq, place.when_ns] for key, place in found.places.items()]
    return {"daemon": found.daemon, "since_ns": found.since_ns, "next": places}


def _from_json(body: dict[str, Any]) -> _Followed:
    rows = body["next"]
    places = {(kind, stream): Place(bytes.fromhex(boot), int(seq), int(when)) for kind, stream, boot, seq, when in rows}
    return _Followed(str(body["daemon"]), body["since_ns"], places)
