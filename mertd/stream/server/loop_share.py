"""A share of the event loop's time, for work that clients ask for."""

from __future__ import annotations

import asyncio
import time

from mertd.stream.server.allowance import Bucket, Rate


class LoopShare:
    """Seconds of the event loop that one kind of work may take. `spend` what it took, and then `rest`."""

    def __init__(self, rate: Rate, longest_rest_s: float) -> None:
        """`rate`: in seconds of the loop. `longest_rest_s`: longest pause, however long the last piece of work took."""
        self._rate = rate
        self._longest_rest_s = longest_rest_s
        self._bucket = Bucket(rate, time.monotonic())

    def spend_since(self, began: float) -> None:
        """Count a piece of work that began at this monotonic time and ends now."""
        now = time.monotonic()
        self._bucket.spend(now, now - began)

    async def rest(self) -> None:
        """Leave the event loop to the others, once this work has had its share of it."""
        left = self._bucket.left(time.monotonic())
        if left <= 0:
            await asyncio.sleep(min(self._longest_rest_s, self._rate.burst - left / self._rate.per_second))
