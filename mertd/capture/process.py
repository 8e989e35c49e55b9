"""The capture process: opens one source and keeps its ring filled until it ends, breaks or is told to stop."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from mertd.capture.clock import Reading, StepDetector
from mertd.capture.instant import Instant, now
from mertd.capture.limits import check_format
from mertd.capture.messages import (
    WRITE,
    CaptureSettings,
    Committed,
    Discontinuity,
    Ended,
    Failed,
    Gap,
    Grant,
    Notice,
    Opened,
    Stop,
)
from mertd.capture.pipeline import Mono, Pipeline
from mertd.capture.source import Block, Source
from mertd.capture.zeros import ZeroWatch
from mertd.errors import MertdError, SourceError
from mertd.processes.child import Outbox, begin
from mertd.ring import Ring
from mertd.text import shorten


def open_source(settings: CaptureSettings) -> Source:
    """The source that the address names. Raises `SourceError`."""
    source = _open(settings)
    try:
        check_format(source.rate, source.channels)
    except SourceError as error:
        source.close()
        raise SourceError(f"{settings.address}: {error}", error.retry) from error
    return source


def _open(settings: CaptureSettings) -> Source:
    address = settings.address
    if address.kind == "device":
        from mertd.capture.device import DeviceSource

        return DeviceSource(address)
    if address.kind == "loopback":
        from mertd.capture.loopback import open_loopback

        return open_loopback(address)
    if address.kind == "tap":
        from mertd.capture.tap import TapSource

        return TapSource(address)
    if address.kind == "file":
        from mertd.capture.file import FileSource

        return FileSource(address, settings.realtime)
    if address.kind == "pipe":
        from mertd.capture.pipe import PipeSource

        return PipeSource(address, settings.realtime, settings.stdin.detach() if settings.stdin else None)
    from mertd.capture.synth import SynthSource

    return SynthSource(address, settings.realtime)


def main(settings: CaptureSettings, ring: Ring, pipe: Connection) -> None:
    """Entry point of the process."""
    control = Control()
    begin(pipe, control.on_message)
    outbox = Outbox(pipe)
    try:
        began = now()
        source = open_source(settings)
        outbox.send(Opened(shorten(source.description), source.rate, source.channels))
        Recorder(settings, source, ring, outbox.send, control, began).run()
    except MertdError as error:
        retry = isinstance(error, SourceError) and error.retry
        outbox.send(Failed(shorten(str(error)), error.exit_code, retry))
    except Exception:  # noqa: BLE001 - a bug: its traceback must reach the daemon's log
        outbox.send(Failed(shorten(traceback.format_exc()), 1, retry=True))
    else:
        source.close()
        return
    os._exit(0)  # what is broken may hang when it is closed, or when PortAudio ends; the system takes back what it held


class Control:
    """What the supervisor has said: how far to write, and whether to stop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limit = 0
        self.stopping = False

    def on_message(self, message: object) -> None:
        """Called by the listening thread."""
        with self._changed:
            match message:
                case Grant(limit):
                    self._limit = limit
                case Stop():
                    self.stopping = True
            self._changed.notify_all()

    def may_write(self, end: int, patience_s: float) -> bool:
        """Wait until samples up to `end` may be written or it is time to stop; False if neither came to pass in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stopping or end <= self._limit, patience_s)


HELD_UP_NS = 250_000_000
"""A reading may be as late as this: what says that it was heard just after a jump may have been heard before."""


@dataclass
class _Jump:
    """Of wall time, by `by_ns`; the first that was seen of the new one."""

    seen: Instant
    by_ns: int
    dropped: int = 0  # frames


class Recorder:
    """Moves one source's audio into the ring and reports on it."""

    def __init__(
        self,
        settings: CaptureSettings,
        source: Source,
        ring: Ring,
        send: Callable[[object], None],
        control: Control,
        began: Instant | None = None,
    ) -> None:
        """`began`: when the source was about to be opened, by default now."""
        self._settings, self._source, self._ring, self._send, self._control = settings, source, ring, send, control
        self._steps = StepDetector()
        self._jump: _Jump | None = None
        self._zeros = ZeroWatch(source.rate, source.why_zeros) if source.why_zeros else None
        self._notices: list[Notice] = []
        self._end = self._reported = settings.start
        self._begin_epoch(began or now())

    def run(self) -> None:
        """Until the source ends or a stop is asked for. Raises `SourceError` when it breaks."""
        for block in self._source.blocks():
            if self._control.stopping:
                return
            if block is None:
                self._commit()
            else:
                self._record(block)
        if self._jump:
            self._finish_epoch(self._jump)
        self._write(self._pipeline.flush())
        self._commit()
        self._send(Ended(self._source.reopens))

    def _begin_epoch(self, before: Instant) -> None:
        self._pipeline = Pipeline(self._source.rate, self._source.channels, self._settings.address.mix)
        self._base, self._frames = self._end, 0
        self._before: Instant | None = before
        self._readings: list[Reading] = []
        self._gaps: list[Gap] = []

    def _finish_epoch(self, jump: _Jump) -> None:
        self._write(self._pipeline.flush())
        self._commit()
        self._send(Discontinuity(self._end, jump.by_ns, round(self._pipeline.to_output(jump.dropped))))
        self._jump = None
        self._begin_epoch(jump.seen)

    def _record(self, block: Block) -> None:
        seen = now() if block.heard is None else block.heard.before(-block.age_ns)
        if jump := self._steps.stepped(seen):
            self._jump = _Jump(seen, jump)
        if self._jump:
            if block.heard is not None and block.heard.steady_ns < self._jump.seen.steady_ns + HELD_UP_NS:
                self._jump.dropped += len(block.frames)  # it would be dated by a clock that was set after it was heard
                self._commit()
                return
            self._finish_epoch(self._jump)
        lost = block.lost if self._frames else 0  # before the first block of an epoch there is nothing to stay aligned with
        if block.heard is not None:  # first, since windows may end among the zeros
            self._readings.append(Reading(self._index(lost), block.heard, block.age_ns, before=self._before))
            self._before = None
        elif not self._frames:
            self._readings.append(Reading(self._index(), seen, exact=True))
        if lost:
            self._fill(lost)
        if block.spoilt:
            first, end = (round(self._index(after)) for after in block.spoilt)
            self._gaps.append(Gap(first, end, "not finite"))
        if self._zeros and (notice := self._zeros.look(block.frames, round(self._index()))):
            self._notices.append(notice)
        self._write(self._pipeline.feed(block.frames))
        self._frames += len(block.frames)
        self._commit()

    def _fill(self, lost: int) -> None:
        """Zeros for lost frames, so that indexes stay aligned with the wall clock."""
        start, self._frames = round(self._index()), self._frames + lost
        self._gaps.append(Gap(start, round(self._index())))
        while lost:
            count = min(lost, self._source.rate)
            self._write(self._pipeline.feed(np.zeros((count, self._source.channels), np.float32)))
            lost -= count

    def _index(self, after: int = 0) -> float:
        """Index of the sample that the next input frame, or one `after` it, will become."""
        return self._base + self._pipeline.to_output(self._frames + after)

    def _write(self, samples: Mono) -> None:
        for at in range(0, len(samples), WRITE):
            part = samples[at : at + WRITE]
            while not self._settings.realtime and not self._control.may_write(self._end + len(part), 0.1):
                self._commit()
            if self._control.stopping:
                return
            if self._end + len(part) - self._reported > WRITE:
                self._commit()
            self._ring.write(self._end, part)
            self._end += len(part)

    def _commit(self) -> None:
        self._reported = self._end
        self._send(Committed(self._end, time.monotonic_ns(), tuple(self._readings), tuple(self._gaps)))
        self._readings, self._gaps = [], []
        for notice in self._notices:
            self._send(notice)
        self._notices = []
