"""The dispatcher: decides whose windows the model gets next, and takes its answers to the streams that asked.

Rules of this file: no process, no socket, no clock. Streams take turns window by window, starting behind the stream that was
served last, whatever else stands in the list: streams that always have windows due never differ by more than one window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mertd.embed.messages import Answer, Answers, Copied, Ready, Request


class Requester(Protocol):
    """A stream, as the dispatcher sees it."""

    @property
    def due(self) -> bool:
        """Whether `take` has something to give."""

    def take(self, most: int, now_ns: int) -> list[Request]:
        """Return requests for up to `most` windows."""

    def copied(self, token: int, at_ns: int) -> None: ...

    def answered(self, answer: Answer, model: Ready, now_ns: int) -> None: ...

    def embed_lost(self) -> None: ...


class Worker(Protocol):
    """What runs the model, as the dispatcher sees it."""

    @property
    def room(self) -> int:
        """How many windows it can be given now; 0 while it is busy or not ready."""

    def submit(self, requests: list[Request]) -> None: ...


class Dispatcher:
    """Hands windows of several streams to one worker, a batch at a time."""

    def __init__(self, requesters: Mapping[str, Requester], worker: Worker, clock_ns: Callable[[], int]) -> None:
        """`requesters`: the streams by name; more may be added later. `clock_ns`: monotonic nanoseconds."""
        self._requesters = requesters
        self._worker = worker
        self._clock_ns = clock_ns
        self._next = 0  # position of the stream whose turn it is
        self._asked: dict[int, Requester] = {}  # who is waiting for the answer to each token

    def dispatch(self) -> None:
        """Give the worker a batch, if it can take one and any stream has windows due."""
        room = self._worker.room
        if not room:
            return
        batch: list[Request] = []
        requesters = list(self._requesters.values())
        idle = 0  # streams in a row that had nothing
        while idle < len(requesters) and len(batch) < room:
            self._next %= len(requesters)
            requester = requesters[self._next]
            taken = requester.take(1, self._clock_ns()) if requester.due else []
            for request in taken:
                self._asked[request.token] = requester
            batch += taken
            idle = 0 if taken else idle + 1
            self._next += 1
        if batch:
            self._worker.submit(batch)

    def copied(self, message: Copied) -> None:
        """Tell each stream which of its windows are out of the ring."""
        for token in message.tokens:
            if token in self._asked:
                self._asked[token].copied(token, message.at_ns)

    def answered(self, message: Answers, model: Ready) -> Sequence[Requester]:
        """Give each stream its answers. Return those streams."""
        served = []
        for answer in message.answers:
            if requester := self._asked.pop(answer.token, None):
                requester.answered(answer, model, self._clock_ns())
                served.append(requester)
        return served

    def worker_lost(self) -> None:
        """The process that was asked has died: each stream decides what it asks again."""
        self._asked.clear()
        for requester in self._requesters.values():
            requester.embed_lost()
