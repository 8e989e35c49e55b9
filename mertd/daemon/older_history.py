"""History older than what the supervisor keeps: asked of the process that remembers, if there is one.

Whatever that process does, a request ends: without an answer in time there is nothing older.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from mertd.daemon.companion import Companion
from mertd.stream.server.history import Page

PATIENCE_S = 2.0
"""Seconds to wait for an answer; a client waits 3 s for ours."""


class OlderHistory:
    """Pages of messages from the memory."""

    def __init__(self) -> None:
        self._companion: Companion | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Page]] = {}

    def attach(self, companion: Companion) -> None:
        """Set the process that remembers."""
        self._companion = companion

    @property
    def available(self) -> bool:
        """Whether there is such a process, and it runs."""
        return self._companion is not None and self._companion.process.pid is not None

    def answered(self, message: Any) -> None:
        """Take an answer of the process: ("page", number, messages in frames, whether there are more)."""
        match message:
            case ("page", int() as number, list() as messages, bool() as more):
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(Page(messages, more))

    async def between(self, boot: bytes, kind: str, stream: str, first: int, end: int | None) -> Page:
        """Return messages with first <= `seq` < end (None: up to the newest) of one run of a daemon; an empty page if none."""
        if self._companion is None:
            return Page([], False)
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._companion.process.send(("history", number, boot, kind, stream, first, end))
            return await asyncio.wait_for(waiting, PATIENCE_S)
        except TimeoutError:
            return Page([], False)
        finally:
            del self._waiting[number]
