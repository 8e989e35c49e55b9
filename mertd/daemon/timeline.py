"""One stream's bookkeeping: from what capture and embed report to what becomes of each window.

Rules of this file: no process, no socket, no clock. Reports come in with their times; the `Composer` publishes the results. The
tests hold it to a conservation law: windows due = embedded + silent + skipped + still waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mertd.capture.reports import MAX_UNREPORTED_SAMPLES, Committed
from mertd.daemon.clocks import EpochClocks
from mertd.daemon.composer import Composer
from mertd.daemon.gaps import GapLog
from mertd.daemon.pending import PendingWindow, PendingWindows
from mertd.embed.messages import Answer, ModelInfo, Request, Token
from mertd.errors import WireError
from mertd.ring import Ring
from mertd.vocabulary import EpochReason, EventName, SkipReason
from mertd.windows import Schedule, Skip, Window

log = logging.getLogger(__name__)

ROOMY_S = 10.0
"""Seconds that a roomy ring holds besides a window and a hop."""


class Timeline:
    """Windows, clocks and gaps of one stream.

    Attributes:
        epoch: number of the current epoch.
        end: first sample that was not reported yet.
    """

    def __init__(
        self, stream: str, schedule: Schedule, ring: Ring, gate_dbfs: float, clocks: EpochClocks, composer: Composer
    ) -> None:
        """`gate_dbfs`: windows below this level are silent."""
        self.epoch = 0
        self.end = 0
        self._schedule = schedule
        self._ring = ring
        self._gate_dbfs = gate_dbfs
        self._clocks = clocks
        self._composer = composer
        self._gaps = GapLog()
        self._pending = PendingWindows(stream)
        self._written = 0  # end of the samples that may have been written, reported or not
        self._capturing = True

    # What capture reports

    def begin_epoch(self, reason: EpochReason, **detail: Any) -> None:
        """Begin a new epoch: the numbering goes on at `end`, but the audio before and after does not belong together."""
        self._report_gaps()
        self.epoch += 1
        self._clocks.begin(self.epoch)
        self._schedule.begin(self.epoch, self.end)
        self.event(EventName.EPOCH, reason=reason.value, **detail)

    def committed(self, report: Committed, now_ns: int) -> None:
        """Take in samples, clock readings and gaps. `now_ns`: monotonic."""
        self._clocks.add(report.readings)
        self._gaps.add(report.gaps)
        self.end = report.end
        self._report_gaps(now_ns)
        self._written = max(self._written, report.end)
        fresh, skips = self._schedule.committed(report.end)
        self._pending.became_due(fresh, now_ns)
        self._check_overwritten(report.at_ns)
        self._publish_ready(now_ns)  # before the windows that are skipped now, which come later in the stream
        self._skip(skips)

    def capture_began(self) -> None:
        """A capture process may write from `end` on."""
        self._capturing = True

    def capture_over(self, in_order: bool, now_ns: int) -> None:
        """No capture process writes any more. One that ended `in_order` has reported all it wrote, another may not have."""
        self._report_gaps()
        self._capturing = False
        self._written = max(self._written, self.end if in_order else self.end + MAX_UNREPORTED_SAMPLES)
        self._check_overwritten()
        self._publish_ready(now_ns)

    # What the embed process is asked, and answers

    def take(self, most: int, now_ns: int) -> list[Request]:
        """Return requests for up to `most` windows: first those whose process died, then those due."""
        batch = self._pending.unsent[:most]
        windows, skips = self._schedule.take(most - len(batch)) if most > len(batch) else ([], [])
        self._skip(skips)
        batch += [self._pending.add(window) for window in windows]
        for pending in batch:
            pending.sent_ns = now_ns
            pending.attempts += 1
        return [Request(p.token, p.window.start, p.window.end, self._gate_dbfs) for p in batch]

    def copied(self, token: Token, at_ns: int, all_reported: bool = False) -> None:
        """The samples of a window were out of the ring at monotonic time `at_ns`.

        `all_reported`: all that capture had reported by then was taken in. Then it cannot have written much more, and a window
        which that would not have reached is known to be whole, without another report.
        """
        if (pending := self._pending.get(token)) is not None:
            pending.copied_ns = at_ns
            written = max(self._written, self.end + MAX_UNREPORTED_SAMPLES)
            if all_reported and not self._ring.overwritten(pending.window.start, written):
                pending.overwritten = False
        if not self._capturing:
            self._check_overwritten()

    def answered(self, answer: Answer, model: ModelInfo, now_ns: int) -> None:
        """Take in the levels and the vector of a window, computed by `model`."""
        if (pending := self._pending.get(answer.token)) is not None:
            pending.answer = answer
            pending.model = model
        self._publish_ready(now_ns)

    def embed_lost(self) -> None:
        """The embed process has died: ask again what it had not answered, or give it up."""
        for pending in self._pending.ask_again():
            self._give_up(pending, SkipReason.FAILED)

    # What clients and the configuration ask for

    def ask(self, now_ns: int) -> Window:
        """Make the window that ends with the newest sample due, and return it.

        Raises `ValueError` if there are too few samples, or too many such windows are waiting.
        """
        window, fresh = self._schedule.ask()
        if fresh:
            self._pending.became_due([window], now_ns)
        return window

    def change(self, hop: int | None = None, gate_dbfs: float | None = None) -> None:
        """Set the hop, in samples, or the gate, from now on, and say so. Raises `ValueError` for a hop that does not fit."""
        detail: dict[str, Any] = {}
        if hop is not None:
            self._schedule.change_hop(hop)
            detail["hop_s"] = hop / self._clocks.rate
        if gate_dbfs is not None:
            self._gate_dbfs = detail["gate_dbfs"] = gate_dbfs
        self.event(EventName.CHANGED, **detail)

    def event(self, name: EventName, index: int | None = None, **detail: Any) -> None:
        """Publish an event at sample `index` of the current epoch, by default the newest one."""
        self._composer.event(name, self.epoch, self.end if index is None else index, detail)

    def past_event(self, name: EventName, epoch: int, index: int, unix_ns: int, detail: dict[str, Any]) -> None:
        """Publish what was found out about an earlier sample. Raises `ValueError` for one that there has not been."""
        if not (0 <= epoch <= self.epoch and 0 <= index <= self.end):
            raise ValueError(f"sample {index} of epoch {epoch} has not been received")
        self._composer.event(name, epoch, index, detail, unix_ns)

    # What it looks like from outside

    @property
    def due(self) -> bool:
        """Whether there are windows that the model could be given."""
        return self._schedule.waiting > 0 or bool(self._pending.unsent)

    @property
    def waiting(self) -> int:
        """Windows due of which it is not yet known what becomes of them."""
        return self._schedule.waiting + len(self._pending)

    @property
    def limit(self) -> int:
        """First sample that capture may not write yet, if no window is to be lost."""
        return self._schedule.limit

    @property
    def next_end(self) -> int:
        """First sample behind the window that the hop makes due next."""
        return self._schedule.next_end

    @property
    def is_roomy(self) -> bool:
        """Whether the ring holds so much that a window is whole long after it became due."""
        return self._ring.capacity - self._schedule.reach >= ROOMY_S * self._clocks.rate

    @property
    def seconds(self) -> float:
        """Seconds of audio received so far, over all epochs."""
        return self.end / self._clocks.rate

    @property
    def counters(self) -> Mapping[str, int]:
        """What the status says about the stream's windows."""
        return {
            "epoch": self.epoch,
            "samples": self.end,
            "due": self._schedule.due_total,
            "embedded": self._composer.embedded,
            "silent": self._composer.silent,
            "skipped": self._composer.skipped,
            "waiting": self.waiting,
            "missing": self._gaps.missing,
            "events": self._composer.events,
        }

    @property
    def skips(self) -> Mapping[str, int]:
        """What the status says about skipped windows: how many, by reason."""
        return {reason.value: count for reason, count in self._composer.skips.items()}

    # Within

    def _report_gaps(self, now_ns: int | None = None) -> None:
        """Publish one event for all gaps since the last one; with `now_ns` only if that was long enough ago."""
        if (report := self._gaps.report(now_ns)) is not None:
            start, detail = report
            self.event(EventName.OVERFLOW, start, **detail)

    def _check_overwritten(self, reported_ns: int | None = None) -> None:
        """Find out which windows were overwritten while they were copied.

        A report made at `reported_ns`, after the copy, covers all that was written before it: messages on a pipe decide, not
        shared counters. Without a capture process every copy can be checked.
        """
        for pending in self._pending:
            if pending.copied_ns is None or pending.overwritten is not None:
                continue
            if reported_ns is None or reported_ns >= pending.copied_ns:
                pending.overwritten = self._ring.overwritten(pending.window.start, self._written)

    def _publish_ready(self, now_ns: int) -> None:
        """Publish, in order, the windows that are answered and known to be whole."""
        while (pending := self._pending.first) is not None and pending.settled:
            self._publish(pending, now_ns)
        self._forget()

    def _publish(self, pending: PendingWindow, now_ns: int) -> None:
        answer = pending.answer
        assert answer is not None
        if pending.overwritten:
            self._give_up(pending, SkipReason.OVERWRITTEN)
            return
        if answer.failed:
            self._give_up(pending, SkipReason.FAILED)
            return
        try:
            if answer.vector is None:
                self._composer.silence(pending.window, answer.levels)
            else:
                self._composer.embedding(pending, self._gaps.missing_in(pending.window), now_ns)
        except WireError:  # a bug; but even so the window must be accounted for, and the next one published
            log.exception("a window could not be published")
            self._give_up(pending, SkipReason.FAILED)
            return
        self._pending.remove(pending)
        self._schedule.finished(pending.window)

    def _give_up(self, pending: PendingWindow, reason: SkipReason) -> None:
        self._pending.remove(pending)
        self._schedule.finished(pending.window)
        window = pending.window
        self._skip([Skip(window.epoch, 1, window.start, window.end, reason)])

    def _skip(self, skips: list[Skip]) -> None:
        for skip in skips:
            self._composer.skip(skip)

    def _forget(self) -> None:
        """Drop what no window can need any more: nothing here grows with time."""
        oldest = self.limit - self._ring.capacity
        self._gaps.forget(oldest)
        self._pending.forget(oldest)
        if len(self._clocks) > 1:
            self._clocks.keep(self._pending.epochs)
