"""Messages that wait for those before them, which are fetched first."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from mertd.stream.client.cursor_file import CursorFile
from mertd.stream.client.inbox import Inbox, Selection, Steps
from mertd.stream.client.link import Link
from mertd.stream.client.past import Asked, Past, Place, places_of
from mertd.stream.client.sequence import Found, start_ns
from mertd.wire import Embedding, Event, Message, Status

MAX_HELD = 256
"""Messages of a daemon that wait for its answer, at most: only clients with a cursor wait."""


@dataclass(eq=False)
class _CatchingUp:
    """A message that waits for those before it. `asked`: what is to be fetched next."""

    steps: Steps
    link: Link
    asked: Asked | None = None


class Backlog:
    """Hands messages to the inbox, one after the other, each after a page at a time of what is missing before it."""

    def __init__(self, inbox: Inbox, selection: Selection, cursor: CursorFile | None) -> None:
        self._inbox = inbox
        self._selection = selection
        self._cursor = cursor
        self._waiting: deque[_CatchingUp] = deque()
        self._current: _CatchingUp | None = None

    def __bool__(self) -> bool:
        """Whether there is something to deliver or to fetch now."""
        now = time.monotonic()
        return any(one.link.asks_past_at <= now for one in self._waiting)

    @property
    def ready_at(self) -> float:
        """Monotonic seconds from which on there is; infinite if nothing waits."""
        return min((one.link.asks_past_at for one in self._waiting), default=float("inf"))

    def add(self, message: Message, link: Link) -> None:
        """Take a message that has come."""
        held = sum(one.link is link for one in self._waiting)
        if (link.past is not None and held) or held >= MAX_HELD:
            return  # what is being fetched goes on until its end; a later message shows that this one is missing
        if link.past is None and link.fetches_past and link.sequence.expected[0] not in (None, message.boot):
            if held:
                return  # first what waits of the run before
            link.past = Past(places_of(link.sequence), None)  # the end of the run before this one may not have been heard
        if link.past is None:
            steps = self._inbox.accept(message, link.sequence, link.daemon.endpoint)
        elif isinstance(message, Status):
            steps = self._catch_up(link, link.past, message)
        else:
            return  # it comes with the past, which is asked for when a status says what there is
        self._waiting.append(_CatchingUp(steps, link))

    def next_asked(self) -> tuple[Link, Asked] | None:
        """Return what to fetch, and where; None if the first message is delivered, and the next one's turn has come.

        A daemon that does not answer does not hold up what the others have sent.
        """
        now = time.monotonic()
        catching_up = self._current = next(one for one in self._waiting if one.link.asks_past_at <= now)
        if catching_up.asked is None:
            try:
                catching_up.asked = next(catching_up.steps, None)
            except BaseException:
                self._waiting.remove(catching_up)
                raise
        if catching_up.asked is None:
            self._waiting.remove(catching_up)
            return None
        return catching_up.link, catching_up.asked

    def give(self, found: Found | None) -> bool:
        """Deliver what was fetched. Returns False if it has to be asked for again, at another time."""
        catching_up = self._current
        if found is None or catching_up is None:
            return False
        try:
            catching_up.asked = catching_up.steps.send(found)
        except StopIteration:
            self._waiting.remove(catching_up)
        except BaseException:
            self._waiting.remove(catching_up)
            raise
        return True

    def _catch_up(self, link: Link, past: Past, status: Status) -> Steps:
        """Deliver what a daemon has published before this status, and then expect what follows. Raises `StoreError`."""
        endpoint = link.daemon.endpoint
        kept = self._cursor
        if kept is not None:
            kept.meet(endpoint, status.daemon)

        def deliver(message: Embedding | Event, lost: int) -> None:
            if kept is not None:
                kept.expect(endpoint, (message.kind, message.stream), Place(message.boot, message.seq, start_ns(message)))
            self._inbox.deliver_past(message, lost, endpoint)

        expected = yield from past.requests(status, self._selection.kinds, self._selection.streams, deliver)
        link.sequence.resume_at(expected)
        link.past = None
        if kept is not None:
            for key, seq in expected[status.boot].items():
                kept.expect(endpoint, key, Place(status.boot, seq, status.time_ns))
            kept.arrived(endpoint)
        yield from self._inbox.accept(status, link.sequence, endpoint)
