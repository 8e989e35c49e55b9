"""What browsers are told as it happens: a numbered log of limited size, encoded once for all of them.

A browser that slept says what it got last and continues there, as server-sent events do by themselves. One that was away for
longer than the log reaches gets a snapshot of everything.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

MAX_ENTRIES = 5_000
"""Entries that are kept."""

MAX_BYTES = 8_000_000
"""Bytes of entries that are kept."""

MAX_VIEWERS = 256
"""Browsers that are told, at most."""

BEAT_S = 5.0
"""Seconds without an entry after which a browser is told that the connection still works."""

RETRY_MS = 1_000
"""Milliseconds after which a browser connects again."""


class Feed:
    """The log, and those who read it. Used by one event loop.

    Attributes:
        viewers: browsers that are connected.
    """

    def __init__(self, snapshot: Callable[[], Any], beat_s: float = BEAT_S) -> None:
        """`snapshot`: returns all that a browser needs which knows nothing yet."""
        self.viewers = 0
        self._snapshot = snapshot
        self._beat_s = beat_s
        self._run = secrets.token_hex(4)  # another server's numbers mean nothing here
        self._entries: deque[bytes] = deque()
        self._bytes = 0
        self._end = 0  # number of the next entry
        self._told = 0  # what browsers were told of
        self._changed = asyncio.Event()
        self._is_closed = False

    def add(self, kind: str, content: Any) -> None:
        """Add an entry, which browsers are told with the next `flush`."""
        entry = encoded(kind, content, f"{self._run}-{self._end + 1}")
        self._entries.append(entry)
        self._bytes += len(entry)
        self._end += 1
        while len(self._entries) > MAX_ENTRIES or self._bytes > MAX_BYTES:
            self._bytes -= len(self._entries.popleft())

    def flush(self) -> None:
        """Tell all browsers what was added. So many entries at once cost each of them one message."""
        if self._told < self._end:
            self._told = self._end
            self._wake()

    def close(self) -> None:
        """End all connections: a server that stops must not wait for browsers that never leave."""
        self._is_closed = True
        self._wake()

    def place_of(self, identifier: str | None) -> int | None:
        """Return the number behind what a browser got last; None if it must begin with a snapshot."""
        run, _, number = (identifier or "").partition("-")
        if run != self._run or not (number.isascii() and number.isdecimal() and len(number) < 19):
            return None
        place = int(number)
        return place if self._end - len(self._entries) <= place <= self._end else None

    async def follow(self, identifier: str | None) -> AsyncIterator[bytes]:
        """Yield what a browser is sent, until this is closed. `identifier`: of what it got last, if anything."""
        self.viewers += 1
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            place = self.place_of(identifier)
            while not self._is_closed:
                if place is None or place < self._end - len(self._entries):
                    place = self._end
                    yield encoded("snapshot", self._snapshot(), f"{self._run}-{place}")
                elif place < self._end:
                    first = len(self._entries) - (self._end - place)
                    place = self._end
                    yield b"".join(list(self._entries)[first:])
                else:
                    yield await self._news()
        finally:
            self.viewers -= 1

    async def _news(self) -> bytes:
        """Wait for an entry, and return what to send if none came in time."""
        changed = self._changed
        with suppress(TimeoutError):
            async with asyncio.timeout(self._beat_s):
                await changed.wait()
            return b""
        return encoded("beat", {})

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def encoded(kind: str, content: Any, identifier: str = "") -> bytes:
    """Return a server-sent event. Without an identifier the browser keeps the one that it has."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    mark = f"id: {identifier}\n" if identifier else ""
    return f"{mark}event: {kind}\ndata: {text}\n\n".encode()
