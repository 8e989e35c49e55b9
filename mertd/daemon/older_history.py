"""History older than what the supervisor keeps: asked of the process that remembers, if there is one.

Whatever that process does, a request ends: without an answer in time the client is told to ask again.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

from mertd.daemon.companion import Companion
from mertd.errors import WireError
from mertd.stream.request import TRY_AGAIN
from mertd.stream.server.history import Page

PATIENCE_S = 2.0
"""Seconds to wait for an answer; a client waits 3 s for ours."""


@dataclass
class _Question:
    """A question that waits for its answer, for one request or several that are the same."""

    number: int
    answer: asyncio.Future[Page]
    waiting: int = 0


class OlderHistory:
    """Pages of messages from the memory."""

    def __init__(self) -> None:
        self._companion: Companion | None = None
        self._numbers = itertools.count()
        self._questions: dict[tuple[Any, ...], _Question] = {}

    def attach(self, companion: Companion) -> None:
        """Set the process that remembers."""
        self._companion = companion

    @property
    def exists(self) -> bool:
        """Whether there is such a process, even if it does not run at this moment."""
        return self._companion is not None

    @property
    def available(self) -> bool:
        """Whether there is such a process, and it runs."""
        return self._companion is not None and self._companion.process.pid is not None

    def answered(self, message: Any) -> None:
        """Take an answer: ("page", number, messages in frames, whether there are more), or ("no page", number)."""
        match message:
            case ("page", int() as number, list() as messages, bool() as more):
                for answer in self._answers(number):
                    answer.set_result(Page(messages, more))
            case ("no page", int() as number):
                for answer in self._answers(number):
                    answer.set_exception(WireError(f"the memory cannot be read at this moment; {TRY_AGAIN}"))

    async def between(self, boot: bytes, kind: str, stream: str, first: int, end: int | None) -> Page:
        """Return messages with first <= `seq` < end (None: up to the newest) of one run of a daemon; an empty page if none.

        Raises `WireError` if there is no answer in time.
        """
        return await self._ask("history", boot, kind, stream, first, end)

    async def since(self, daemon: str, after: bytes | None, kind: str, stream: str, since_ns: int) -> Page:
        """Return the first messages since a time of the earliest run that has any; an empty page if none has.

        `after`: only of runs after this one. Raises `WireError` if there is no answer in time.
        """
        return await self._ask("since", daemon, after, kind, stream, since_ns)

    async def _ask(self, name: str, *question: Any) -> Page:
        if self._companion is None or self._companion.process.pid is None:
            raise WireError(f"the memory does not run at this moment; {TRY_AGAIN}")
        key = (name, *question)
        asked = self._questions.get(key)
        if asked is None:  # a client that repeats its request waits for the same answer
            asked = self._questions[key] = _Question(next(self._numbers), asyncio.get_running_loop().create_future())
            self._companion.process.send((name, asked.number, *question))
        asked.waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(asked.answer)
        except TimeoutError:
            raise WireError(f"the memory has not answered within {PATIENCE_S:g} s; {TRY_AGAIN}") from None
        finally:
            asked.waiting -= 1
            if not asked.waiting and self._questions.get(key) is asked:
                del self._questions[key]

    def _answers(self, number: int) -> list[asyncio.Future[Page]]:
        """Return what waits for an answer with this number."""
        return [one.answer for one in self._questions.values() if one.number == number and not one.answer.done()]
