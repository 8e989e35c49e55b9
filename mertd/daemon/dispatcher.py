"""The dispatcher: decides whose windows the model gets next, and takes its answers to the streams that asked.

Rules of this file: no process, no socket, no clock. Streams take turns window by window, starting behind the stream that was
served last, whatever else stands in the list: streams that always have windows due never differ by more than one window. A
token names its stream, so an answer goes straight to it.

Of a thousand streams few have windows due at a time, so only those are looked at that said so (`due`), unless anything else may
have made windows due (`dispatch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mertd.embed.messages import Answer, Answers, Copied, ModelInfo, Request, Token


class Requester(Protocol):
    """A stream, as the dispatcher sees it."""

    @property
    def due(self) -> bool:
        """Whether `take` has something to give."""

    def take(self, most: int, now_ns: int) -> list[Request]:
        """Return requests for up to `most` windows."""

    def copied(self, token: Token, at_ns: int) -> None: ...

    def answered(self, answer: Answer, model: ModelInfo, now_ns: int) -> None: ...

    def embed_lost(self) -> None: ...


class Worker(Protocol):
    """What runs the model, as the dispatcher sees it."""

    @property
    def room(self) -> int:
        """How many windows it can be given now; 0 while it is busy or not ready."""

    def submit(self, requests: list[Request]) -> None: ...


class Dispatcher:
    """Hands windows of several streams to one worker, in batches."""

    def __init__(self, requesters: Mapping[str, Requester], clock_ns: Callable[[], int]) -> None:
        """`requesters`: the streams by name; more may be added later. `clock_ns`: monotonic nanoseconds."""
        self._requesters = requesters
        self._clock_ns = clock_ns
        self._worker: Worker | None = None
        self._turn = 0  # position of the stream whose turn it is
        self._positions: dict[str, int] = {}
        self._due: set[str] = set()  # streams that may have windows due

    def attach(self, worker: Worker) -> None:
        """Set the worker that gets the windows."""
        self._worker = worker

    def dispatch(self) -> None:
        """Give the worker what it can take, if any stream has windows due."""
        self._due.update(self._requesters)
        self._give()

    def due(self, stream: str) -> None:
        """Give the worker what it can take: `stream` has windows due."""
        self._due.add(stream)
        self._give()

    def _give(self) -> None:
        while self._worker is not None and self._due and (room := self._worker.room):
            if batch := self._next_batch(room):
                self._worker.submit(batch)

    def _next_batch(self, room: int) -> list[Request]:
        """Return requests for at most `room` windows; none if none was due after all."""
        if len(self._positions) != len(self._requesters):
            self._positions = {name: position for position, name in enumerate(self._requesters)}
        turn = self._turn
        queue = sorted(self._due, key=lambda name: (self._positions[name] - turn) % len(self._positions))
        batch: list[Request] = []
        while queue and len(batch) < room:
            queue = [name for name in queue if len(batch) < room and self._take_one(name, batch)]
        return batch

    def _take_one(self, stream: str, batch: list[Request]) -> bool:
        """Add the next window of a stream to the batch. Return whether it had one."""
        requester = self._requesters[stream]
        taken = requester.take(1, self._clock_ns()) if requester.due else []
        if not taken:
            self._due.discard(stream)
            return False
        batch += taken
        self._turn = self._positions[stream] + 1
        return True

    def copied(self, message: Copied) -> None:
        """Tell each stream which of its windows are out of the ring."""
        for token in message.tokens:
            self._requesters[token.stream].copied(token, message.at_ns)

    def answered(self, message: Answers, model: ModelInfo) -> None:
        """Give each stream its answers, and the worker what it can take now."""
        for answer in message.answers:
            self._requesters[answer.token.stream].answered(answer, model, self._clock_ns())
        self._give()

    def worker_lost(self) -> None:
        """The process that had a batch has died: each stream decides what it asks again."""
        for requester in self._requesters.values():
            requester.embed_lost()
        self._due.update(self._requesters)
