"""Requests for pages of history: built one at a time, in turns, and no faster than a client's allowance."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Hashable
from typing import Any

from mertd.stream.server.allowance import Allowance, Rate
from mertd.stream.server.replies import Asker
from mertd.stream.server.turns import Turns

PAGE_BYTES = Rate(burst=4e6, per_second=6e6)
"""Bytes of history that a client may ask for; beyond, its next page waits."""

REMEMBERED = 1_024
"""Clients whose allowance is remembered."""

MAX_WAITING = 2_048
"""Requests for pages that may wait."""

MAX_WAITING_PER_CLIENT = 64
"""Requests for pages that may wait of one client."""


class PageQueue:
    """Requests that wait for their turn."""

    def __init__(self) -> None:
        self._turns: Turns[tuple[Asker, dict[str, Any]]] = Turns(MAX_WAITING, MAX_WAITING_PER_CLIENT)
        self._allowance = Allowance(PAGE_BYTES, REMEMBERED)
        self._added = asyncio.Event()

    def add(self, asker: Asker, body: dict[str, Any]) -> Asker | None:
        """Queue a request. Return who is left out for it: this client, or the one with the longest line; None if nobody is."""
        left_out = self._turns.add(asker.client, (asker, body))
        self._added.set()
        return left_out[0] if left_out is not None else None

    async def next(self) -> tuple[Asker, dict[str, Any]]:
        """Wait for a request whose turn it is, and return it."""
        while (turn := self._turns.take(self._has_allowance)) is None:
            now = time.monotonic()
            soonest = min((self._allowance.of(client, now).ready_at(now) for client in self._turns.clients()), default=None)
            self._added.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if soonest is None else max(0.0, soonest - now)):
                    await self._added.wait()
        return turn

    def spend(self, asker: Asker, size: int) -> None:
        """Count a page of `size` bytes."""
        now = time.monotonic()
        self._allowance.of(asker.client, now).spend(now, size)

    def _has_allowance(self, client: Hashable) -> bool:
        now = time.monotonic()
        return self._allowance.of(client, now).left(now) > 0
