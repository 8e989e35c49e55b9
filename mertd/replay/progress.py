"""Where a replay is: what its status says, and what its history may give.

Rules of this file: no socket; the present time comes from the caller.
"""

from __future__ import annotations

import os
from typing import Any

from mertd import __version__
from mertd.memory.pages import in_frames
from mertd.memory.queries import FOREVER_NS
from mertd.replay.remembered_span import Key, RememberedSpan
from mertd.stream.client.sequence import COUNTERS
from mertd.stream.server.history import PAGE_BYTES, PAGE_MESSAGES, Page
from mertd.vocabulary import EventName, HealthState, Phase, StreamState
from mertd.wire import REPLAY_MARK, Embedding, Event, Status, fit


class Progress:
    """Counts what was published.

    Attributes:
        phase: what the replay is doing.
        boot: number of the run that is being replayed.
        published: messages so far, by kind.
    """

    def __init__(self, span: RememberedSpan, source: str) -> None:
        """`source`: what the status gives as address of the streams."""
        self.phase = Phase.STARTING
        self.boot = span.runs[0]
        self.published = {"embedding": 0, "event": 0}
        self._span = span
        self._source = source
        self._model: dict[str, Any] = {}
        self._streams = {name: self._new_stream(name) for name in span.streams}
        self._next: dict[Key, int] = {}  # `seq` after the last one that was published

    def note(self, message: Embedding | Event) -> bool:
        """Note that a message is about to be published. Returns whether it is the first one of another run."""
        is_new_run = message.boot != self.boot
        if is_new_run:
            self.boot = message.boot
            self._streams = {name: self._new_stream(name) for name in self._streams}
        self._next[message.boot, message.kind, message.stream] = message.seq + 1
        self.published[message.kind] += 1
        stream = self._streams[message.stream]
        stream["epoch"] = message.epoch
        if isinstance(message, Embedding):
            stream["embedded"] = message.seq + 1
            stream["samples"] = max(stream["samples"], message.window.end)
            stream["missing"] += message.audio.missing
            model = message.model
            self._model = {
                **{name: getattr(model, name) for name in ("name", "weights", "trained", "space", "backend", "precision")},
                **{"device": "", "agreement": 0.0, "rejected": {}},
            }
        else:
            stream["events"] = message.seq + 1
            stream["silent"] += message.event == EventName.SILENT
            windows = message.detail.get("windows")
            stream["skipped"] += windows if message.event == EventName.SKIPPED and isinstance(windows, int) else 0
        stream["due"] = stream["embedded"] + stream["silent"] + stream["skipped"]
        return is_new_run

    def end(self) -> None:
        """Note that all was published."""
        for stream in self._streams.values():
            stream["state"] = StreamState.ENDED.value

    def status(self, now_ns: int, uptime_ns: int, dropped: int, facts: dict[str, Any]) -> Status:
        """Return the status. `facts`: what else to say of this process."""
        own = {"pid": os.getpid(), "restarts": 0, "state": HealthState.HEALTHY.value, **facts}
        return Status(
            boot=self.boot,
            daemon=REPLAY_MARK + self._span.daemon,
            time_ns=now_ns,
            uptime_ns=uptime_ns,
            version=__version__,
            phase=self.phase.value,
            model=fit(self._model),
            streams=fit({name: dict(counters) for name, counters in self._streams.items()}),
            processes=fit({"supervisor": own}),
            published=sum(self.published.values()),
            dropped=dropped,
        )

    def page(self, boot: bytes, kind: str, stream: str, first: int, end: int | None) -> Page:
        """Return a page of what was published before, from the memory. Raises `StoreError`."""
        key = (boot, kind, stream)
        highest = self._next.get(key, 0)
        begin, stop = max(first, self._span.firsts.get(key, 0)), highest if end is None else min(end, highest)
        if begin >= stop:
            return Page([], False)
        return Page(*in_frames(self._span.between(boot, kind, stream, begin, stop, PAGE_MESSAGES + 1), PAGE_BYTES))

    def page_since(self, after: bytes | None, kind: str, stream: str, since_ns: int) -> Page:
        """Return a page of the earliest run that has messages from a time on; or of the runs after one, if it is in the replay.

        Raises `StoreError`.
        """
        runs = self._span.runs
        known = after in runs
        for boot in runs[runs.index(after) + 1 if after is not None and known else 0 :]:
            first = self._span.first_since(boot, kind, stream, -FOREVER_NS if known else since_ns)
            if first is not None and (found := self.page(boot, kind, stream, first, None)).messages:
                return found
        return Page([], False)

    def _new_stream(self, name: str) -> dict[str, Any]:
        counters = dict.fromkeys(("restarts", "epoch", "samples", "missing", "due", "silent", "skipped", "waiting"), 0)
        for kind, counter in COUNTERS.items():  # what comes before the span is not missing
            counters[counter] = self._span.firsts.get((self.boot, kind, name), 0)
        words = {"state": StreamState.LISTENING.value, "source": self._source, "description": self._source, "problem": ""}
        return {**words, **counters}
