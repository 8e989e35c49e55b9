"""A daemon as a memory sees it: a publisher with its history and a control endpoint, in threads of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from command_process import PATIENCE_S, wait_until
from memory.stored import BOOTS, small
from mertd.errors import WireError
from mertd.memory.follower import Follower
from mertd.memory.following import Following
from mertd.stream.server.history import Page
from mertd.stream.server.publisher import Publisher
from mertd.wire import Embedding, Event, Message, encode
from messages import event, status
from stream.servers import control, publisher
from working_thread import working


class Station:
    """Publishes embeddings and events of one stream, each kind numbered without holes."""

    def __init__(self, publishing: Publisher, boot: bytes = BOOTS[0]) -> None:
        self.boot = boot
        self.sent: list[Embedding | Event] = []
        self.control = ""
        self._publishing = publishing
        self._lock = threading.Lock()
        self._next = {"embedding": 0, "event": 0}

    @property
    def endpoint(self) -> str:
        return self._publishing.endpoint

    @property
    def ends(self) -> list[tuple[str, int]]:
        """The number of the next message of each kind."""
        return list(self._next.items())

    def embedding(self, **changes: Any) -> None:
        self._send(small(self._next["embedding"], boot=self.boot, **changes))

    def event(self, name: str = "changed") -> None:
        self._send(event(self._next["event"], event=name, boot=self.boot))

    def lose(self, kind: str = "embedding", count: int = 1) -> None:
        """Number messages that no client ever gets."""
        self._next[kind] += count

    def status(self) -> None:
        counters = {"embedded": self._next["embedding"], "events": self._next["event"]}
        self._publish(status(boot=self.boot, streams={"room": counters}))

    def restart(self, boot: bytes) -> None:
        """Be another run of the daemon: its history is empty."""
        with self._lock:
            self.boot = boot
            self._publishing.history.__init__()  # type: ignore[misc]
            self._next = dict.fromkeys(self._next, 0)

    def forget_history(self) -> None:
        with self._lock:
            self._publishing.history.__init__()  # type: ignore[misc]

    def answer(self, request: dict[str, Any]) -> Page:
        with self._lock:
            if request["request"] == "status":
                counters = {"embedded": self._next["embedding"], "events": self._next["event"]}
                return Page([encode(status(boot=self.boot, streams={"room": counters}))], False)
            if request.get("boot", self.boot) != self.boot:
                raise WireError("that run of the daemon is over, and its messages are gone")
            history = self._publishing.history
            return history.between(request["kind"], request["stream"], request["first"], request["end"])

    def _send(self, message: Embedding | Event) -> None:
        self._next[message.kind] = message.seq + 1
        self.sent.append(replace(message))
        self._publish(message)

    def _publish(self, message: Message) -> None:
        with self._lock:
            self._publishing.send(message)


@contextmanager
def station() -> Iterator[Station]:
    with publisher() as publishing:
        found = Station(publishing)
        with control(found.answer) as found.control:
            yield found


@contextmanager
def on_air(found: Station, pause_s: float) -> Iterator[None]:
    """Let a station publish without end, in a thread: three embeddings to an event, and now and then a status."""
    over = threading.Event()

    def publish() -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            found.event() if turn % 4 == 0 else found.embedding()
            if turn % 20 == 0:
                found.status()
            time.sleep(pause_s)

    with working(publish, over):
        yield


@contextmanager
def following(found: Station, folder: Path) -> Iterator[Follower]:
    """Remember in a thread, until the block ends."""
    stopping = threading.Event()
    one = Follower(Following(folder, (found.endpoint,), (found.control,)), stopping)
    with working(one.run, stopping):
        yield one


def until(found: Station, condition: Callable[[], bool]) -> None:
    """Publish a status, as a daemon does all the time, until the condition is true."""

    def satisfied() -> bool:
        found.status()
        return condition()

    wait_until(satisfied, PATIENCE_S, lambda: "it never came")
