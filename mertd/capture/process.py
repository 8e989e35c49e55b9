"""The capture process: opens one source and keeps its ring filled until it ends, breaks or is told to stop."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from mertd.capture.clock import Reading, StepDetector
from mertd.capture.messages import WRITE, CaptureSettings, Committed, Discontinuity, Ended, Failed, Gap, Grant, Opened, Stop
from mertd.capture.pipeline import Mono, Pipeline
from mertd.capture.source import Block, Source
from mertd.child import Outbox, begin
from mertd.errors import MertdError, SourceError
from mertd.ring import Ring


def open_source(settings: CaptureSettings) -> Source:
    """The source that the address names. Raises `SourceError`."""
    address = settings.address
    if address.kind == "device":
        from mertd.capture.device import DeviceSource

        return DeviceSource(address)
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
        source = open_source(settings)
        outbox.send(Opened(source.description, source.rate, source.channels))
        try:
            Recorder(settings, source, ring, outbox.send, control).run()
        finally:
            source.close()
    except MertdError as error:
        retry = isinstance(error, SourceError) and error.retry
        outbox.send(Failed(str(error), error.exit_code, retry))
    except Exception:  # noqa: BLE001 - a bug: its traceback must reach the daemon's log
        outbox.send(Failed(traceback.format_exc(), 1, retry=True))


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


class Recorder:
    """Moves one source's audio into the ring and reports on it."""

    def __init__(
        self, settings: CaptureSettings, source: Source, ring: Ring, send: Callable[[object], None], control: Control
    ) -> None:
        self._settings, self._source, self._ring, self._send, self._control = settings, source, ring, send, control
        self._steps = StepDetector()
        self._end = self._reported = settings.start
        self._begin_epoch()

    def run(self) -> None:
        """Until the source ends or a stop is asked for. Raises `SourceError` when it breaks."""
        for block in self._source.blocks():
            if self._control.stopping:
                return
            if block is None:
                self._commit()
            else:
                self._record(block)
        self._write(self._pipeline.flush())
        self._commit()
        self._send(Ended(self._source.reopens))

    def _begin_epoch(self) -> None:
        self._pipeline = Pipeline(self._source.rate, self._source.channels, self._settings.address.mix)
        self._base, self._frames = self._end, 0
        self._readings: list[Reading] = []
        self._gaps: list[Gap] = []

    def _record(self, block: Block) -> None:
        if jump := self._steps.stepped(time.time_ns(), time.monotonic_ns()):
            self._write(self._pipeline.flush())
            self._commit()
            self._begin_epoch()
            self._send(Discontinuity(self._end, jump))
        if block.lost and self._frames:  # before the first block of an epoch there is nothing to stay aligned with
            self._fill(block.lost)
        if block.unix_ns is not None:
            self._readings.append(Reading(self._index(), block.unix_ns))
        elif not self._frames:
            self._readings.append(Reading(self._index(), time.time_ns()))
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

    def _index(self) -> float:
        """Index of the sample that the next input frame will become."""
        return self._base + self._pipeline.to_output(self._frames)

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
