"""Answers that take long, computed once for all browsers that ask the same, one after the other in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from mertd.errors import MertdError

KEPT_S = 5.0
"""Seconds for which an answer is given to others who ask the same."""

MAX_KEPT = 32
"""Answers that are kept."""

MAX_WAITING = 16
"""Different questions that wait, at most."""


class BusyError(MertdError):
    """Too many questions wait already."""


class Answers:
    """Computes answers in one thread, which does not keep the process from ending."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`name`: of the thread, which is started with the first question."""
        self._clock, self._name = clock, name
        self._thread: threading.Thread | None = None
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._known: OrderedDict[Hashable, tuple[float, asyncio.Future[bytes]]] = OrderedDict()

    async def get(self, question: Hashable, compute: Callable[[], Any]) -> bytes:
        """Return what `compute` returns, as JSON. Raises what it raises, and `BusyError` if too many questions wait."""
        self._forget()
        if question not in self._known:
            if sum(not answer.done() for _, answer in self._known.values()) >= MAX_WAITING:
                raise BusyError("many browsers ask for other spans; try again in a moment")
            self._known[question] = (self._clock(), self._ask(compute))
        return await asyncio.shield(self._known[question][1])  # another browser may wait for it, too

    def _ask(self, compute: Callable[[], Any]) -> asyncio.Future[bytes]:
        """Give the thread something to compute."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()

        def work() -> None:
            try:
                found = json.dumps(compute(), allow_nan=False, separators=(",", ":")).encode()
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                _tell(loop, answer.set_exception, error)
            else:
                _tell(loop, answer.set_result, found)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(work)
        return answer

    def _run(self) -> None:
        while True:
            self._work.get()()

    def _forget(self) -> None:
        now_s = self._clock()
        for question, (asked_s, answer) in list(self._known.items()):
            if answer.done() and (now_s - asked_s > KEPT_S or answer.cancelled() or answer.exception() is not None):
                del self._known[question]
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[[Any], object], what: object) -> None:
    """Call something in the event loop, if that still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell, what)
