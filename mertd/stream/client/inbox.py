"""What becomes of messages at the client: each is delivered once, in order, after those that are missing before it.

Rules of this file: no socket, no clock. Ranges that are missing are yielded, and answered with what was found of them; so the
same code serves threads and event loops.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from mertd.errors import SpaceError
from mertd.stream.client.past import Asked
from mertd.stream.client.sequence import Found, MissingRange, Sequence
from mertd.text import printable
from mertd.wire import Embedding, Event, Message, Status

log = logging.getLogger(__name__)

Steps = Generator[Asked, Found, None]
"""Yields what is missing, and is sent a page of what was found of it."""


@dataclass(frozen=True, eq=False)
class Received:
    """One message of the daemon at `endpoint`. `lost`: messages of its kind and stream before it that are lost for good."""

    message: Message
    lost: int
    endpoint: str = ""


@dataclass(frozen=True)
class Selection:
    """Which messages are delivered.

    `streams`: names; none for all. `kinds`: of embedding, event and status. `newest`: of the embeddings that wait, only each
    stream's newest. `mix_spaces`: vectors of several spaces are allowed.
    """

    streams: tuple[str, ...]
    kinds: tuple[str, ...]
    newest: bool
    mix_spaces: bool

    def topics(self, can_fetch: bool) -> list[str]:
        """Return what to subscribe to. `can_fetch`: with what a status says was sent, losses at the end can be made good."""
        kinds = (*self.kinds, "status") if can_fetch and not self.newest else self.kinds
        topics: list[str] = []
        for kind in dict.fromkeys(kinds):
            by_name = self.streams and kind != "status"
            topics += [f"{kind}/{name}/" for name in self.streams] if by_name else [f"{kind}/"]
        return topics


class Inbox:
    """Messages ready to be taken, of all daemons. `lost`, `recovered` and `passed_over` count messages as `Subscriber` says."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._ready: deque[Received | SpaceError] = deque()
        self._space: str | None = None
        self._unknown: set[tuple[str, str]] = set()  # endpoints and streams of which was said that the one lacks the other
        self.lost = 0
        self.recovered = 0
        self.passed_over = 0

    def __bool__(self) -> bool:
        return bool(self._ready)

    def take(self) -> Received:
        """Return the next message. Raises `SpaceError` in the place of one from the past that was of another space."""
        found = self._ready.popleft()
        if isinstance(found, SpaceError):
            raise found
        return found

    def select(self, waiting: list[Message]) -> list[Message]:
        """Return what of all waiting messages is to be accepted: all but the older embeddings of each stream."""
        newest = {message.stream: message for message in waiting if isinstance(message, Embedding)}
        kept = [m for m in waiting if not isinstance(m, Embedding) or newest[m.stream] is m]
        self.passed_over += len(waiting) - len(kept)
        return kept

    def accept(self, message: Message, sequence: Sequence, endpoint: str) -> Steps:
        """Make a message ready, after those that are missing before it. Raises `SpaceError`."""
        for missing in self._missing(message, sequence, endpoint):
            rest: MissingRange | None = missing
            while rest is not None:
                found = yield rest
                for older in found.messages:
                    self.recovered += 1
                    self.deliver(older, sequence, endpoint)
                rest = found.rest(rest)
            if isinstance(message, Status) and (lost := sequence.give_up(missing)):
                self._count_lost(lost, f"{missing.kind}/{missing.stream}", endpoint)
        if not isinstance(message, Status) or "status" in self._selection.kinds:
            self.deliver(message, sequence, endpoint)

    def _missing(self, message: Message, sequence: Sequence, endpoint: str) -> Iterable[MissingRange]:
        if self._selection.newest:
            return []
        if isinstance(message, Status):
            self._check_streams(message, endpoint)
            return sequence.missing_by(message, self._selection.kinds, self._selection.streams)
        missing = sequence.missing(message)
        return [missing] if missing is not None else []

    def deliver(self, message: Message, sequence: Sequence, endpoint: str) -> None:
        """Make a message ready, unless it has come before. Raises `SpaceError` for a vector of another space."""
        lost = 0
        if isinstance(message, Embedding | Event):
            accepted = sequence.accept(message)
            if accepted is None:
                return
            lost = 0 if self._selection.newest else accepted
            self._count_lost(lost, f"{message.kind}/{message.stream}", endpoint)
        if isinstance(message, Embedding) and not self._selection.mix_spaces:
            self._check_space(message, endpoint)
        self._ready.append(Received(message, lost, endpoint))

    def deliver_past(self, message: Embedding | Event, lost: int, endpoint: str) -> None:
        """Make a message ready that comes from the memory, in order."""
        self.recovered += 1
        self._count_lost(lost, f"{message.kind}/{message.stream}", endpoint)
        try:
            if isinstance(message, Embedding) and not self._selection.mix_spaces:
                self._check_space(message, endpoint)
        except SpaceError as error:
            self._ready.append(error)
        else:
            self._ready.append(Received(message, lost, endpoint))

    def _check_streams(self, status: Status, endpoint: str) -> None:
        for stream in self._selection.streams:
            if stream not in status.streams and (endpoint, stream) not in self._unknown:
                self._unknown.add((endpoint, stream))
                names = ", ".join(map(printable, status.streams)) or "none yet"
                log.warning("%s has no stream %s, only %s; waiting for it", endpoint, printable(stream), names)

    def _check_space(self, message: Embedding, endpoint: str) -> None:
        self._space = self._space or message.model.space
        if message.model.space != self._space:
            raise SpaceError(
                f"{message.stream} at {endpoint} has vectors of space {message.model.space}, others are of "
                f"{self._space}: they may not be compared; subscribe to one of them, or pass mix_spaces=True"
            )

    def _count_lost(self, lost: int, what: str, endpoint: str) -> None:
        if lost:
            self.lost += lost
            log.warning("%d messages of %s from %s are lost", lost, printable(what), endpoint)
