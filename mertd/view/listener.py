"""Follows daemons as any client does, for all browsers together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mertd.errors import MertdError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.complaint import Complaint
from mertd.stream.curve_keys import ClientKeys
from mertd.view.board import Board, ms, short
from mertd.view.feed import Feed
from mertd.view.moment_facts import mark_facts
from mertd.view.plain_words import event_words
from mertd.vocabulary import EventName
from mertd.wire import Embedding, Event, Message

log = logging.getLogger(__name__)

NEWS_S = 0.25
"""Seconds between two times that browsers are told what has changed."""

PROBLEM_MS = 10_000
"""Milliseconds for which a problem must not come again until a message that is right ends it. Others may go on meanwhile."""

MAX_EVENTS = 50
"""Events that a browser is shown when it comes."""


@dataclass(frozen=True)
class Daemons:
    """Which daemons are followed, as `mertd.subscribe` takes them."""

    endpoints: tuple[str, ...]
    controls: tuple[str, ...]
    keys: tuple[ClientKeys | None, ...] | None = None


class Listener:
    """Keeps a board of what is alive and tells a feed what is new."""

    def __init__(self, daemons: Daemons, snapshot: Callable[[], dict[str, Any]] = dict) -> None:
        """Nothing is heard before `run`. `snapshot`: returns what else a browser needs that knows nothing yet."""
        self.board = Board()
        self.feed = Feed(self._snapshot)
        self._daemons = daemons
        self._more = snapshot
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._complaint = Complaint(log, logging.WARNING)
        self._complained_ms = 0
        self._heard: list[Callable[[Embedding], dict[str, Any]]] = []
        self._others: list[Callable[[str, Message], object]] = []

    def on_window(self, look: Callable[[Embedding], dict[str, Any]]) -> None:
        """Let a function look at each embedding; what it returns is told with it."""
        self._heard.append(look)

    def on_message(self, look: Callable[[str, Message], object]) -> None:
        """Let a function look at each message, which it is given with the endpoint from which it came."""
        self._others.append(look)

    async def receive(self) -> None:
        """Follow the daemons for ever. Raises `EndpointError` for an invalid endpoint."""
        daemons = self._daemons
        kinds = ("embedding", "event", "status")
        controls = daemons.controls or None
        with Subscriber(daemons.endpoints, (), kinds, control=controls, mix_spaces=True, keys=daemons.keys) as subscriber:
            while True:
                try:
                    received = await subscriber.receive_async()
                except MertdError as error:  # an invalid message, or a refusal; the next call continues
                    self.complain(str(error), ms(time.time_ns()))
                    continue
                if received is not None:
                    self.take(received.message, ms(time.time_ns()))
                    for look in self._others:
                        look(received.endpoint, received.message)

    async def tell(self) -> None:
        """Tell browsers what has changed, for ever."""
        while True:
            self.board.tick(ms(time.time_ns()))
            if (news := self.board.news()) is not None:
                self.feed.add("board", news)
            self.feed.flush()
            await asyncio.sleep(NEWS_S)

    def complain(self, text: str, now_ms: int) -> None:
        """Tell of a problem that there is now."""
        self._complained_ms = now_ms
        if self._complaint.say(text):
            self.feed.add("problem", {"words": short(text)})

    def take(self, message: Message, now_ms: int) -> None:
        """Take a message that came now."""
        self.board.note(message, now_ms)
        if self._complaint and abs(now_ms - self._complained_ms) >= PROBLEM_MS:
            self._complaint.over()
            self.feed.add("problem", {"words": ""})
        if isinstance(message, Embedding):
            facts = {"daemon": short(message.daemon), "stream": short(message.stream)}
            for look in self._heard:
                facts |= look(message)
            if len(facts) > 2:
                self.feed.add("window", facts)
        elif isinstance(message, Event) and message.event != EventName.SILENT:
            kind, words = event_words(message)
            shown: dict[str, Any] = {
                "daemon": short(message.daemon),
                "stream": short(message.stream),
                "event": short(message.event),
                "kind": kind,
                "words": short(words),
                "time_ms": ms(message.time_ns),
            }
            if message.event in (EventName.CHANGE, EventName.RETURN):
                shown["mark"] = mark_facts(message.event, message.time_ns, message.detail)
            self._events.append(shown)
            self.feed.add("event", shown)

    def _snapshot(self) -> dict[str, Any]:
        return {
            **self.board.whole(),
            "events": list(self._events),
            "problem": short(self._complaint.text),
            "connects": [short(endpoint) for endpoint in self._daemons.endpoints],
            **self._more(),
        }
