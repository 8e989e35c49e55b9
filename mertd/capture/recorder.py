"""Moves the audio of one source into the ring and reports on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mertd.capture.clock import ClockReading, StepDetector
from mertd.capture.clock_pair import ClockPair, read_clocks
from mertd.capture.mono import Mono, MonoConverter
from mertd.capture.reports import (
    MAX_UNREPORTED_SAMPLES,
    CaptureSettings,
    Committed,
    Discontinuity,
    Ended,
    FilledGap,
    Grant,
    NextDue,
    Notice,
    Stop,
)
from mertd.capture.source import AudioSource, Block
from mertd.capture.zeros import ZerosDetector
from mertd.ring import Ring
from mertd.vocabulary import GapReason

MAX_READING_DELAY_NS = 250_000_000
"""Nanoseconds by which a reading may be late: audio dated less than this after a jump may have been captured before it."""

RARE_REPORT_NS = 400_000_000
"""Nanoseconds between two reports while no window is nearly due. With a block more, the supervisor must not grow suspicious."""

GRANT_WAIT_S = 0.1
"""Seconds to wait for permission to write before the next heartbeat."""


class CaptureControl:
    """What the supervisor has said.

    Attributes:
        stopping: whether to stop.
        next_due: before the end of this sample, reports may be rare; 0 until that is known.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limit = 0
        self.stopping = False
        self.next_due = 0

    def on_message(self, message: object) -> None:
        """Take a message; called in the listening thread."""
        with self._changed:
            match message:
                case Grant(limit):
                    self._limit = limit
                case NextDue(end):
                    self.next_due = end
                case Stop():
                    self.stopping = True
            self._changed.notify_all()

    def abandon(self, timeout_s: float) -> bool:
        """Stop without waiting for the source, which may hang: from now on nothing is written. Return False if it timed out."""
        if not self._changed.acquire(timeout=timeout_s):
            return False
        self.stopping = True
        self._changed.notify_all()
        self._changed.release()
        return True

    def unless_stopping(self, write: Callable[[], None]) -> bool:
        """Call `write` unless a stop was requested; one that is requested meanwhile waits. Return whether it was called."""
        with self._changed:
            if not self.stopping:
                write()
            return not self.stopping

    def wait_to_write(self, end: int, timeout_s: float) -> bool:
        """Wait until samples up to `end` may be written or a stop is requested; return False if it timed out."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stopping or end <= self._limit, timeout_s)


@dataclass
class _ClockJump:
    """A jump of wall time that has been noticed and has not yet begun an epoch."""

    clocks: ClockPair  # first pair after the jump
    by_ns: int
    dropped: int = 0  # frames captured before the jump and delivered after it


@dataclass
class _Unsent:
    """What the next report will contain besides the end of the samples.

    `since`: end of the samples that the last report told; `since_ns`: its monotonic time.
    """

    since: int
    since_ns: int
    readings: list[ClockReading] = field(default_factory=list)
    gaps: list[FilledGap] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


@dataclass
class _Epoch:
    """The numbering of the samples since the last discontinuity."""

    converter: MonoConverter
    start: int  # index of its first sample
    before: ClockPair | None  # the clocks before any of it was captured, until they have been reported
    frames: int = 0  # input frames so far, lost ones included

    def index(self, after: int = 0) -> float:
        """Return the index of the sample that the next input frame, or one `after` it, will become."""
        return self.start + self.converter.to_output(self.frames + after)


class Recorder:
    """Records one source: mixes and resamples its blocks, writes them to the ring and reports what was written."""

    def __init__(
        self,
        settings: CaptureSettings,
        source: AudioSource,
        ring: Ring,
        send: Callable[[object], None],
        control: CaptureControl,
        before: ClockPair | None = None,
    ) -> None:
        """`before`: the clocks before the source was opened, by default now."""
        self._settings = settings
        self._source = source
        self._ring = ring
        self._send = send
        self._control = control
        self._steps = StepDetector()
        self._jump: _ClockJump | None = None
        mix = settings.address.mix
        self._zeros = ZerosDetector(source.rate, source.explain_zeros, mix) if source.explain_zeros else None
        self._end = settings.start  # of the samples in the ring
        self._unsent = _Unsent(settings.start, 0)
        self._epoch = self._new_epoch(before or read_clocks())

    def run(self) -> None:
        """Record until the source ends or a stop is requested. Raises `SourceError` when it breaks."""
        for block in self._source.blocks():
            if self._control.stopping:
                return
            if block is None:
                self._commit_in_time()
            else:
                self._record(block)
        if self._jump:
            self._finish_epoch(self._jump)
        self._write(self._epoch.converter.flush())
        self._commit()
        self._send(Ended(self._source.reopens, self._source.end_report))

    def _new_epoch(self, before: ClockPair) -> _Epoch:
        self._control.next_due = 0
        converter = MonoConverter(self._source.rate, self._source.channels, self._settings.address.mix)
        return _Epoch(converter, self._end, before)

    def _finish_epoch(self, jump: _ClockJump) -> None:
        converter = self._epoch.converter
        self._write(converter.flush())
        self._commit()
        self._send(Discontinuity(self._end, jump.by_ns, round(converter.to_output(jump.dropped))))
        self._jump = None
        self._epoch = self._new_epoch(jump.clocks)

    def _record(self, block: Block) -> None:
        clocks = read_clocks() if block.captured_at is None else block.captured_at.earlier(-block.age_ns)
        if by_ns := self._steps.step_ns(clocks):
            self._jump = _ClockJump(clocks, by_ns)
        if self._jump:
            if block.captured_at and block.captured_at.steady_ns < self._jump.clocks.steady_ns + MAX_READING_DELAY_NS:
                # Its date would be that of a clock which was set after it was captured.
                self._jump.dropped += len(block.frames)
                self._commit()
                return
            self._finish_epoch(self._jump)
        self._add(block, clocks)

    def _add(self, block: Block, clocks: ClockPair) -> None:
        epoch = self._epoch
        lost = block.lost if epoch.frames else 0  # before the first block of an epoch there is nothing to stay aligned with
        if block.captured_at is not None:  # first, since windows may end among the zeros
            reading = ClockReading(epoch.index(lost), block.captured_at, block.age_ns, before_epoch=epoch.before)
            self._unsent.readings.append(reading)
            epoch.before = None
        elif not epoch.frames:
            # In real time a block is passed on when its last sample is due.
            made_ns = len(block.frames) * 1_000_000_000 // self._source.rate if self._settings.realtime else 0
            self._unsent.readings.append(ClockReading(epoch.index(), clocks.earlier(made_ns), exact=True))
        if lost:
            self._fill(lost)
        if block.nonfinite:
            start, end = (round(epoch.index(after)) for after in block.nonfinite)
            self._unsent.gaps.append(FilledGap(start, end, GapReason.NOT_FINITE))
        if self._zeros and (notice := self._zeros.check(block.frames, round(epoch.index()))):
            self._unsent.notices.append(notice)
        self._write(epoch.converter.feed(block.frames))
        epoch.frames += len(block.frames)
        self._commit_in_time()

    def _fill(self, lost: int) -> None:
        """Write zeros for lost frames, so that indexes stay aligned with the wall clock."""
        epoch = self._epoch
        start = round(epoch.index())
        epoch.frames += lost
        self._unsent.gaps.append(FilledGap(start, round(epoch.index())))
        while lost:
            count = min(lost, self._source.rate)
            self._write(epoch.converter.feed(np.zeros((count, self._source.channels), np.float32)))
            lost -= count

    def _write(self, samples: Mono) -> None:
        for at in range(0, len(samples), MAX_UNREPORTED_SAMPLES):
            part = samples[at : at + MAX_UNREPORTED_SAMPLES]
            while not self._settings.realtime and not self._control.wait_to_write(self._end + len(part), GRANT_WAIT_S):
                self._commit()
            if self._end + len(part) - self._unsent.since > MAX_UNREPORTED_SAMPLES:
                self._commit()
            if not self._control.unless_stopping(partial(self._ring.write, self._end, part)):
                return
            self._end += len(part)

    def _commit_in_time(self) -> None:
        """Report what was written, unless that may wait: no window ends in it, and nothing is wrong with it."""
        quiet = self._end < self._control.next_due and not self._unsent.gaps and not self._unsent.notices
        if not quiet or time.monotonic_ns() - self._unsent.since_ns >= RARE_REPORT_NS:
            self._commit()

    def _commit(self) -> None:
        """Report what was written since the last report; also the heartbeat."""
        at_ns = time.monotonic_ns()
        unsent, self._unsent = self._unsent, _Unsent(self._end, at_ns)
        self._send(Committed(self._end, at_ns, tuple(unsent.readings), tuple(unsent.gaps)))
        for notice in unsent.notices:
            self._send(notice)
