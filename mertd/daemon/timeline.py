"""One stream's bookkeeping: from what capture and embed report to what is published.

Rules of this file: no process, no socket, no clock. Reports come in with their times, messages go out through `publish`. The
conservation law that the tests hold it to: windows due = embedded + silent + skipped + still waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.capture.clock import Clock
from mertd.capture.reports import MAX_UNREPORTED_SAMPLES, Committed, FilledGap
from mertd.embed.messages import Answer, Ready, Request
from mertd.ring import Ring
from mertd.windows import Schedule, Skip, Window
from mertd.wire import Audio, Embedding, Event, Latency, Span, Time, fit

ATTEMPTS = 2
"""Times a window is given to an embed process that dies of it."""

ANNOUNCE_NS = 1_000_000_000
"""Gaps are announced together, at most so often."""


@dataclass
class Pending:
    """A taken window on its way through the embed process."""

    window: Window
    token: int
    due_ns: int
    sent_ns: int = 0  # 0: to be sent
    attempts: int = 0
    copied_ns: int | None = None
    overwritten: bool | None = None  # unknown until capture has reported a time after the copy
    answer: Answer | None = None
    model: Ready | None = None  # what gave the answer


class Timeline:
    """Windows, clocks, gaps and counters of one stream."""

    def __init__(
        self,
        name: str,
        boot: bytes,
        daemon: str,
        rate: int,
        schedule: Schedule,
        ring: Ring,
        layers: tuple[int, ...],
        gate_dbfs: float,
        tokens: Iterator[int],
        unix_ns: Callable[[], int],
        publish: Callable[[Embedding | Event], None],
    ) -> None:
        """`rate`: Hz. `gate_dbfs`: quieter windows are silent. `tokens`: numbers for requests, unique among all streams.
        `unix_ns`: dates events that no sample can.
        """
        self.name, self._boot, self._daemon, self._rate, self._layers = name, boot, daemon, rate, layers
        self._schedule, self._ring, self._publish = schedule, ring, publish
        self._gate_dbfs, self._tokens, self._unix_ns = gate_dbfs, tokens, unix_ns
        self.epoch, self.end = 0, 0
        self._memory_s = ring.capacity / rate + 60  # a window may wait for as long as the ring holds it
        self._clocks = {0: Clock(rate, self._memory_s)}
        self._gaps: deque[FilledGap] = deque()
        self._unannounced: list[FilledGap] = []
        self._announced_ns = -ANNOUNCE_NS
        self._due_at: deque[tuple[Window, int]] = deque()
        self._written = 0  # end of all that may have been written, reported or not
        self._capturing = True
        self._pending: deque[Pending] = deque()
        self._events = 0
        self._lost_since_embedding = 0
        self.embedded = self.silent = self.skipped = self.missing = 0

    # What capture reports

    def begin_epoch(self, reason: str, **detail: Any) -> None:
        """The numbering goes on at `end`, but the audio before and after does not belong together."""
        self._announce_gaps()
        self.epoch += 1
        self._clocks[self.epoch] = Clock(self._rate, self._memory_s)
        self._schedule.begin(self.epoch, self.end)
        self.event("epoch", reason=reason, **detail)

    def committed(self, report: Committed, now_ns: int) -> None:
        """More samples, clock readings and gaps. `now_ns`: monotonic."""
        clock = self._clocks[self.epoch]
        for reading in report.readings:
            clock.add(reading)
        for gap in report.gaps:
            self._remember(gap)
        self.end = report.end
        if self._unannounced and now_ns - self._announced_ns >= ANNOUNCE_NS:
            self._announce_gaps()
            self._announced_ns = now_ns
        self._written = max(self._written, report.end)
        fresh, skips = self._schedule.committed(report.end)
        self._due_at += [(window, now_ns) for window in fresh]
        self._judge(report.at_ns)
        self._settle(now_ns)  # before the windows lost now, which come later in the stream
        self._skip(skips)

    def capture_began(self) -> None:
        """A capture process may write from `end` on."""
        self._capturing = True

    def capture_over(self, in_order: bool, now_ns: int) -> None:
        """No capture process writes any more; one that ended `in_order` has reported everything, another may not have."""
        self._announce_gaps()
        self._capturing = False
        self._written = max(self._written, self.end if in_order else self.end + MAX_UNREPORTED_SAMPLES)
        self._judge()
        self._settle(now_ns)

    # What the embed process is asked, and answers

    def take(self, most: int, now_ns: int) -> list[Request]:
        """Requests for up to `most` windows: first those whose process died, then those due."""
        again = [p for p in self._pending if not p.sent_ns][:most]
        windows, skips = self._schedule.take(most - len(again)) if most > len(again) else ([], [])
        self._skip(skips)
        fresh = [Pending(window, next(self._tokens), self._became_due(window)) for window in windows]
        self._pending += fresh
        for pending in again + fresh:
            pending.sent_ns, pending.attempts = now_ns, pending.attempts + 1
        return [Request(p.token, self.name, p.window.start, p.window.end, self._gate_dbfs) for p in again + fresh]

    def copied(self, token: int, at_ns: int) -> None:
        """The window's samples were out of the ring at monotonic time `at_ns`."""
        for pending in self._pending:
            if pending.token == token:
                pending.copied_ns = at_ns
        if not self._capturing:
            self._judge()

    def answered(self, answer: Answer, model: Ready, now_ns: int) -> None:
        """The window's levels and vector, from `model`."""
        for pending in self._pending:
            if pending.token == answer.token:
                pending.answer, pending.model = answer, model
        self._settle(now_ns)

    def embed_lost(self) -> None:
        """The embed process has died: what it had not answered is asked again, or given up."""
        for pending in list(self._pending):
            if pending.answer is not None or not pending.sent_ns:
                continue
            pending.sent_ns, pending.copied_ns, pending.overwritten = 0, None, None
            if pending.attempts >= ATTEMPTS:
                self._drop(pending, "failed")

    # What somebody wants

    def ask(self, now_ns: int) -> Window:
        """The window that ends with the newest sample, due at once. Raises `ValueError` if there is none, or enough wait."""
        window, fresh = self._schedule.ask()
        if fresh:
            self._due_at.append((window, now_ns))
        return window

    def change(self, hop: int | None = None, gate_dbfs: float | None = None) -> None:
        """Set the hop, in samples, or the gate, from now on; announced. Raises `ValueError` for a hop that does not fit."""
        detail: dict[str, Any] = {}
        if hop is not None:
            self._schedule.change_hop(hop)
            detail["hop_s"] = hop / self._rate
        if gate_dbfs is not None:
            self._gate_dbfs = detail["gate_dbfs"] = gate_dbfs
        self.event("changed", **detail)

    # What the supervisor asks

    @property
    def due(self) -> bool:
        """Whether there are windows that the model could be given."""
        return self._schedule.waiting > 0 or any(not pending.sent_ns for pending in self._pending)

    @property
    def waiting(self) -> int:
        """Windows due that are neither embedded nor accounted for otherwise."""
        return self._schedule.waiting + len(self._pending)

    @property
    def limit(self) -> int:
        """First sample that capture may not write yet, if nothing is to be lost."""
        return self._schedule.limit

    @property
    def seconds(self) -> float:
        """Audio heard so far, over all epochs."""
        return self.end / self._rate

    @property
    def counters(self) -> Mapping[str, int]:
        return {
            "epoch": self.epoch,
            "samples": self.end,
            "due": self._schedule.due_total,
            "embedded": self.embedded,
            "silent": self.silent,
            "skipped": self.skipped,
            "waiting": self.waiting,
            "missing": self.missing,
            "events": self._events,
        }

    def event(self, event: str, index: int | None = None, epoch: int | None = None, **detail: Any) -> None:
        """Publish an event at sample `index` (by default now) of the timeline."""
        epoch, index = self.epoch if epoch is None else epoch, self.end if index is None else index
        clock = self._clocks.get(epoch)
        unix_ns = clock.at(index).unix_ns if clock is not None and clock.known else self._unix_ns()
        seq, self._events = self._events, self._events + 1
        self._publish(Event(self._boot, self._daemon, self.name, epoch, seq, event, index, unix_ns, fit(detail)))

    # Within

    def _remember(self, gap: FilledGap) -> None:
        self.missing += gap.end - gap.start
        if self._gaps and self._gaps[-1].end == gap.start:  # a burst is one gap
            self._gaps[-1] = FilledGap(self._gaps[-1].start, gap.end, gap.reason)
        else:
            self._gaps.append(gap)
        self._unannounced.append(gap)

    def _announce_gaps(self) -> None:
        """One event for all gaps since the last: a source that stumbles all the time must not flood its subscribers."""
        gaps, self._unannounced = self._unannounced, []
        if gaps:
            self.event(
                "overflow",
                gaps[0].start,
                missing=sum(gap.end - gap.start for gap in gaps),
                end=gaps[-1].end,
                gaps=len(gaps),
                reason=", ".join(sorted({gap.reason for gap in gaps})),
            )

    def _judge(self, reported_ns: int | None = None) -> None:
        """Find out which copied windows had been overwritten.

        A report made at `reported_ns`, after the copy, covers all that was written before it: the pipe decides, not shared
        counters. Without a capture process every copy can be judged.
        """
        for pending in self._pending:
            if pending.copied_ns is None or pending.overwritten is not None:
                continue
            if reported_ns is None or reported_ns >= pending.copied_ns:
                pending.overwritten = self._ring.overwritten(pending.window.start, self._written)

    def _settle(self, now_ns: int) -> None:
        """Publish, in order, what is answered and known to be whole."""
        while self._pending and self._pending[0].answer is not None and self._pending[0].overwritten is not None:
            pending = self._pending[0]
            if pending.overwritten:
                self._drop(pending, "overwritten")
                continue
            if pending.answer is not None and pending.answer.failed:
                self._drop(pending, "failed")
                continue
            self._pending.popleft()
            self._schedule.finished(pending.window)
            self._publish_answer(pending, now_ns)
        self._forget()

    def _publish_answer(self, pending: Pending, now_ns: int) -> None:
        answer, model, window = pending.answer, pending.model, pending.window
        assert answer is not None
        assert model is not None
        if answer.vector is None:
            self.silent += 1
            levels = answer.levels
            self.event("silent", window.start, window.epoch, end=window.end, rms_dbfs=levels.rms_dbfs, zeros=levels.zeros)
            return
        self._publish(self._embedding(pending, answer, answer.vector, model, now_ns))
        self.embedded += 1
        self._lost_since_embedding = 0

    def _became_due(self, window: Window) -> int:
        """Monotonic time at which the window's last sample was reported. Windows leave in the order in which they came."""
        while self._due_at[0][0] != window:
            self._due_at.popleft()
        return self._due_at.popleft()[1]

    def _skip(self, skips: list[Skip]) -> None:
        for skip in skips:
            self.skipped += skip.windows
            self._lost_since_embedding += skip.windows
            self.event("skipped", skip.start, skip.epoch, end=skip.end, windows=skip.windows, reason=skip.reason)

    def _drop(self, pending: Pending, reason: str) -> None:
        self._pending.remove(pending)
        self._schedule.finished(pending.window)
        window = pending.window
        self._skip([Skip(window.epoch, 1, window.start, window.end, reason)])

    def _embedding(self, pending: Pending, answer: Answer, vector: NDArray[np.float32], model: Ready, now_ns: int) -> Embedding:
        window = pending.window
        clock, levels = self._clocks[window.epoch], answer.levels
        start, end = clock.at(window.start), clock.at(window.end)
        return Embedding(
            boot=self._boot,
            daemon=self._daemon,
            stream=self.name,
            epoch=window.epoch,
            seq=self.embedded,
            window=Span(window.start, window.end, self._rate),
            time=Time(start.unix_ns, end.unix_ns, max(start.error_ns, end.error_ns), end.drift_ppm),
            audio=Audio(levels.rms_dbfs, levels.peak_dbfs, levels.clipped, self._missing_within(window), levels.zeros),
            model=model.info.model,
            vector=vector,
            latency_ns=Latency(pending.sent_ns - pending.due_ns, answer.embed_ns, now_ns - pending.due_ns),
            skipped=self._lost_since_embedding,
        )

    def _missing_within(self, window: Window) -> int:
        return sum(max(0, min(gap.end, window.end) - max(gap.start, window.start)) for gap in self._gaps)

    def _forget(self) -> None:
        """Drop what no window can need any more: nothing here grows with time."""
        oldest = self.limit - self._ring.capacity
        while self._gaps and self._gaps[0].end <= oldest:
            self._gaps.popleft()
        while self._due_at and self._due_at[0][0].start < oldest:
            self._due_at.popleft()
        if len(self._clocks) == 1:
            return
        needed = {self.epoch, *(p.window.epoch for p in self._pending), *(window.epoch for window, _ in self._due_at)}
        self._clocks = {epoch: clock for epoch, clock in self._clocks.items() if epoch in needed}
