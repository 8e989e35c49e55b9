"""The messages of one stream: built, numbered and published here, and nowhere else.

Rules of this file: no process, no socket, no clock. Messages go out through `publish`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mertd.daemon.clocks import EpochClocks
from mertd.daemon.pending import PendingWindow
from mertd.embed.audio import Levels
from mertd.vocabulary import EventName, SkipReason
from mertd.windows import Skip, Window
from mertd.wire import Audio, Embedding, Event, Latency, Span, Time, fit


@dataclass(frozen=True)
class Origin:
    """Which stream of which daemon a message is from."""

    boot: bytes  # random, of this run of the daemon
    daemon: str
    stream: str


class Composer:
    """Publishes what a timeline decides.

    Attributes:
        embedded, events: messages of each kind so far, and so the next `seq`.
        silent: windows that were published as events of this name.
        skips: the same of skipped windows, by reason.
    """

    def __init__(self, origin: Origin, clocks: EpochClocks, publish: Callable[[Embedding | Event], None]) -> None:
        self.embedded = 0
        self.events = 0
        self.silent = 0
        self.skips = dict.fromkeys(SkipReason, 0)
        self._skipped_since = 0  # the last embedding
        self._origin = origin
        self._clocks = clocks
        self._publish = publish

    @property
    def skipped(self) -> int:
        """Windows that were published as skipped, for whatever reason."""
        return sum(self.skips.values())

    def event(self, name: EventName, epoch: int, index: int, detail: dict[str, Any], unix_ns: int | None = None) -> None:
        """Publish that something happened at sample `index` of `epoch`. `unix_ns`: when, if the clock need not be asked."""
        origin = self._origin
        if unix_ns is None:
            unix_ns = self._clocks.unix_ns(epoch, index)
        event = Event(origin.boot, origin.daemon, origin.stream, epoch, self.events, name.value, index, unix_ns, fit(detail))
        self._publish(event)
        self.events += 1

    def skip(self, skip: Skip) -> None:
        """Publish that due windows are not embedded."""
        self.skips[skip.reason] += skip.windows
        self._skipped_since += skip.windows
        detail = {"end": skip.end, "windows": skip.windows, "reason": skip.reason.value}
        self.event(EventName.SKIPPED, skip.epoch, skip.start, detail)

    def silence(self, window: Window, levels: Levels) -> None:
        """Publish that a window was below the gate."""
        detail = {"end": window.end, "rms_dbfs": levels.rms_dbfs, "zeros": levels.zeros}
        self.event(EventName.SILENT, window.epoch, window.start, detail)
        self.silent += 1

    def embedding(self, pending: PendingWindow, missing: int, now_ns: int) -> None:
        """Publish the vector of a window. `missing`: its samples that were lost; `now_ns`: monotonic."""
        window = pending.window
        answer = pending.answer
        model = pending.model
        assert answer is not None
        assert answer.vector is not None
        assert model is not None
        start = self._clocks.at(window.epoch, window.start)
        end = self._clocks.at(window.epoch, window.end)
        levels = answer.levels
        message = Embedding(
            boot=self._origin.boot,
            daemon=self._origin.daemon,
            stream=self._origin.stream,
            epoch=window.epoch,
            seq=self.embedded,
            window=Span(window.start, window.end, self._clocks.rate),
            time=Time(start.unix_ns, end.unix_ns, max(start.error_ns, end.error_ns), end.drift_ppm),
            audio=Audio(levels.rms_dbfs, levels.peak_dbfs, levels.clipped, missing, levels.zeros),
            model=model.model,
            vector=answer.vector,
            latency_ns=Latency(pending.sent_ns - pending.due_ns, answer.embed_ns, now_ns - pending.due_ns),
            skipped=self._skipped_since,
        )
        self._publish(message)
        self.embedded += 1
        self._skipped_since = 0
