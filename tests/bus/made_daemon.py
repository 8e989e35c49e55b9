"""A daemon as a relay sees it: its two sockets in threads of the test, made messages, and all its runs remembered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mertd.errors import WireError
from mertd.stream.server.history import Page
from mertd.stream.server.publisher import Publisher
from mertd.wire import Embedding, Event, Message, Time, decode, encode
from messages import embedding, event, status
from stream.servers import control, publisher

PAGE = 100
"""Messages of a page of history."""


class MadeDaemon:
    """Publishes embeddings and events, each kind of each stream numbered without holes over a run.

    Attributes:
        sent: the frames of everything that it numbered, by run, kind and stream.
    """

    def __init__(self, publishing: Publisher, name: str) -> None:
        self.name, self.control = name, ""
        self.boot = b""
        self.sent: dict[tuple[bytes, str, str], list[list[bytes]]] = {}
        self._boots: list[bytes] = []
        self._publishing = publishing
        self._lock = threading.RLock()
        self._now_ns = 1_764_000_000_000_000_000
        self._forgotten: set[tuple[bytes, str, str, int]] = set()
        self.restart()

    @property
    def endpoint(self) -> str:
        return self._publishing.endpoint

    def restart(self) -> None:
        """Be another run of the daemon."""
        with self._lock:
            self.boot = bytes([len(self._boots) + 1] * 16)
            self._boots.append(self.boot)

    def send(self, kind: str = "embedding", stream: str = "room", heard: bool = True, **changes: Any) -> Embedding | Event:
        """Publish a message. `heard`: otherwise it only gets into the history, as if the connection had broken."""
        with self._lock:
            kept = self.sent.setdefault((self.boot, kind, stream), [])
            self._now_ns += 1_000_000
            facts: dict[str, Any] = {"boot": self.boot, "daemon": self.name}
            message: Embedding | Event
            if kind == "event":
                message = event(len(kept), stream, **{**facts, "time_ns": self._now_ns, **changes})
            else:
                time = Time(self._now_ns, self._now_ns + 1, 0, 0.0)
                message = embedding(len(kept), stream, **{**facts, "time": time, **changes})
            kept.append(encode(message))
            if heard:
                self._publishing.send(message)
            return message

    def forget(self, kind: str, stream: str, first: int, end: int) -> None:
        """Keep messages of this run no longer."""
        with self._lock:
            self._forgotten |= {(self.boot, kind, stream, seq) for seq in range(first, end)}

    def status(self) -> Message:
        with self._lock:
            streams: dict[str, Any] = {}
            for boot, kind, stream in self.sent:
                counters = streams.setdefault(stream, {"embedded": 0, "events": 0, "epoch": 0, "samples": 0})
                if boot == self.boot:
                    counters["embedded" if kind == "embedding" else "events"] = len(self.sent[boot, kind, stream])
            return status(boot=self.boot, daemon=self.name, uptime_ns=self._now_ns, time_ns=self._now_ns, streams=streams)

    def tell_status(self) -> None:
        with self._lock:
            self._publishing.send(self.status())

    def answer(self, request: dict[str, Any]) -> Page:
        with self._lock:
            if request["request"] == "status":
                return Page([encode(self.status())], False)
            kind, stream = request["kind"], request["stream"]
            if "since" not in request:
                kept = self.sent.get((request.get("boot", self.boot), kind, stream))
                if kept is None:
                    raise WireError("that run of the daemon is over, and its messages are gone")
                return self._page(request.get("boot", self.boot), kind, stream, request["first"], request.get("end"), 0)
            after = self._boots.index(request["boot"]) + 1 if "boot" in request else 0
            for boot in self._boots[after:]:
                page = self._page(boot, kind, stream, 0, None, request["since"] if "boot" not in request else 0)
                if page.messages:
                    return page
            return Page([], False)

    def _page(self, boot: bytes, kind: str, stream: str, first: int, end: int | None, since_ns: int) -> Page:
        kept = self.sent.get((boot, kind, stream), [])
        stop = len(kept) if end is None else min(end, len(kept))
        seqs = [seq for seq in range(first, stop) if (boot, kind, stream, seq) not in self._forgotten]
        if since_ns:
            seqs = [seq for seq in seqs if _time_ns(kept[seq]) >= since_ns]
        return Page([kept[seq] for seq in seqs[:PAGE]], len(seqs) > PAGE)


def _time_ns(frames: list[bytes]) -> int:
    message = decode(frames)
    assert isinstance(message, Embedding | Event)
    return message.time.start_ns if isinstance(message, Embedding) else message.time_ns


@contextmanager
def made_daemon(name: str = "studio") -> Iterator[MadeDaemon]:
    with publisher() as publishing:
        made = MadeDaemon(publishing, name)
        with control(made.answer) as made.control:
            yield made
