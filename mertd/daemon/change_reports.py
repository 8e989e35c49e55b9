"""Changes of the sound, which the process that remembers has found: published as events of their streams.

Rules of this file: what that process says is checked before it is believed, and nothing waits for it for longer than a limit.
The changes of a window are published once, and in order, also when the process was killed and tells them again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

from mertd.daemon.companion import Companion
from mertd.daemon.streams import Streams
from mertd.vocabulary import EventName

NAMES = (EventName.CHANGE, EventName.RETURN)
"""Events that the process can cause."""

MAX_EVENTS = 2
"""Events of one window."""

TIMES_NS = range(-(1 << 63), 1 << 63)
"""Unix times that the wire can carry."""

PATIENCE_S = 1.0
"""Seconds to wait at the end for the changes of windows that were published already."""

log = logging.getLogger(__name__)


class ChangeReports:
    """Publishes what the process reports.

    Attributes:
        told: by stream, the last window whose changes were published.
    """

    def __init__(self, streams: Streams) -> None:
        self.told: dict[str, int] = {}
        self._streams = streams
        self._companion: Companion | None = None
        self._numbers = itertools.count()
        self._through: dict[int, asyncio.Future[None]] = {}
        self._over = False

    def attach(self, companion: Companion) -> None:
        """Set the process."""
        self._companion = companion

    def reported(self, message: Any) -> None:
        """Take a report: ("changes", stream, seq of a window, events), or ("through", number) as the answer to a question."""
        match message:
            case ("through", int() as number):
                waiting = self._through.get(number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
            case ("changes", str() as name, int() as seq, list() as events) if name in self._streams and not self._over:
                if not self.told.get(name, -1) < seq < self._streams[name].timeline.counters["embedded"]:
                    return
                self.told[name] = seq
                for event in events[:MAX_EVENTS]:
                    self._publish(name, event)

    def _publish(self, stream: str, event: Any) -> None:
        match event:
            case (str() as name, int() as epoch, int() as index, int() as time_ns, dict() as detail) if (
                name in NAMES and time_ns in TIMES_NS
            ):
                try:
                    self._streams[stream].timeline.past_event(EventName(name), epoch, index, time_ns, detail)
                except ValueError as error:
                    log.error("%s: a change is not published: %s", stream, error)
            case _:
                log.error("%s: the process that remembers reported a change that is none", stream)

    async def settle(self) -> None:
        """Wait until the changes of all embeddings so far are published, for PATIENCE_S at most. Later ones are not."""
        try:
            if not await self._is_through():
                log.warning("stopping: changes of the last windows are not published; `mertd changes` has them")
        finally:
            self._over = True

    async def _is_through(self) -> bool:
        companion = self._companion
        ends = {name: stream.timeline.counters["embedded"] for name, stream in self._streams.items()}
        if companion is None or not any(ends.values()):
            return True
        if companion.process.pid is None:
            return False
        number = next(self._numbers)
        waiting = self._through[number] = asyncio.get_running_loop().create_future()
        companion.process.send(("through", number, ends))
        try:
            await asyncio.wait_for(waiting, PATIENCE_S)
        except TimeoutError:
            return False
        finally:
            del self._through[number]
        return True
