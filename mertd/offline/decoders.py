"""Threads that decode inputs side by side and make their windows ready for the model.

The libraries that decode, resample and compute release Python's lock, so threads use several cores; the model runs in the
thread that takes the windows. Windows of one input come in order, those of several as they are ready. What is decoded and not
yet taken is bounded: `IN_FLIGHT_S` seconds of windows.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from mertd.capture.source import EndReport
from mertd.defaults import SAMPLE_RATE
from mertd.offline.inputs import Input
from mertd.offline.source_windows import HeardWindow, WindowsDone, heard_windows

IN_FLIGHT_S = 1_800.0
"""Seconds of audio in all windows that are decoded and not yet taken: 173 MB."""

MAX_DECODERS = 16
"""Threads that decode."""

STOP_S = 3.0
"""Seconds to wait for a thread that is told to stop: it may be reading from a file system that hangs."""


@dataclass(frozen=True)
class WindowSettings:
    """How windows are made."""

    window: int  # samples
    hop: int  # samples
    gate_dbfs: float  # windows below it are not embedded


@dataclass(eq=False)
class Job:
    """An input to decode. `done`: its windows that need not be made again. `is_abandoned`: nothing more of it is needed."""

    item: Input
    done: WindowsDone
    is_abandoned: bool = False


@dataclass(frozen=True)
class Ended:
    """Nothing more comes of an input. `error`: what was raised."""

    report: EndReport
    error: Exception | None = None


Found = tuple[Job, HeardWindow | Ended]
"""What comes of an input."""


class Decoders:
    """Threads that decode one job each at a time."""

    def __init__(self, settings: WindowSettings, count: int, batch: int) -> None:
        """Start at most `count` threads. `batch`: windows that are needed at a time."""
        most = max(2, int(IN_FLIGHT_S * SAMPLE_RATE / settings.window))
        self.count = max(1, min(count, MAX_DECODERS, most // 2))
        self._settings = settings
        self._capacity = max(1, min(2 * batch + self.count, most - self.count))  # each thread holds one more
        self._jobs: deque[Job] = deque()
        self._ready: deque[Found] = deque()
        self._changed = threading.Condition()
        self._busy = 0  # threads that are decoding
        self._stopping = False
        self._threads = [threading.Thread(target=self._run, name=f"decoder {n}", daemon=True) for n in range(self.count)]
        for thread in self._threads:
            thread.start()

    def give(self, job: Job) -> None:
        """Have a job done, after those given before."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Jobs that no thread has begun."""
        return len(self._jobs)

    @property
    def is_idle(self) -> bool:
        """Whether nothing more will be ready, unless a job is given."""
        with self._changed:
            return not (self._jobs or self._busy or self._ready)

    def take(self, timeout_s: float) -> Found | None:
        """Return what is ready next; None if nothing is within `timeout_s` seconds, or until a job is given."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._ready) or not (self._jobs or self._busy), timeout_s)
            if not self._ready:
                return None
            found = self._ready.popleft()
            self._changed.notify_all()
            return found

    def close(self) -> None:
        """Stop the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(STOP_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or bool(self._jobs))
                if self._stopping:
                    return
                job = self._jobs.popleft()
                self._busy += 1
            self._decode(job)
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _decode(self, job: Job) -> None:
        report = EndReport()
        try:
            for found in heard_windows(
                job.item.address,
                self._settings.window,
                self._settings.hop,
                self._settings.gate_dbfs,
                stopping=lambda: self._stopping or job.is_abandoned,
                done=job.done,
            ):
                if isinstance(found, EndReport):
                    report = found
                else:
                    self._put((job, found))
        except Exception as error:  # noqa: BLE001 - a fault of a decoder is one of its input, and is told there
            self._put((job, Ended(report, error)))
        else:
            self._put((job, Ended(report)))

    def _put(self, found: Found) -> None:
        """Hand something over, as soon as there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._ready) < self._capacity)
            if not self._stopping:
                self._ready.append(found)
                self._changed.notify_all()
