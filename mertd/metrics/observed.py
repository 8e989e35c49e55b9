"""What was received from daemons so far, as far as scrapes need it.

Rules of this file: no socket. It may be given messages in one thread and be read in others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from prometheus_client import Histogram

from mertd.defaults import SAMPLE_RATE
from mertd.metrics.definitions import LATENCY_SECONDS, STAGE_SECONDS
from mertd.vocabulary import EventName
from mertd.wire import Embedding, Event, Message, Status

STALE_S = 10.0
"""Seconds without a status, of which there is one a second, after which a daemon counts as away."""

FIRST_FRESH_S = 60.0
"""Seconds for which a stream's level is shown when no second window has told yet how often there is one."""

MIN_FRESH_S = 10.0
"""Seconds for which a level is shown at least."""

MAX_FRESH_S = 3_600.0
"""Seconds for which a level is shown at most."""

FRESH_HOPS = 3.0
"""How many times the distance between two windows a level is shown."""

MAX_STREAMS = 1_000
"""Streams of a daemon that are exported, so that none can fill a database with names."""

MAX_DAEMONS = 32
"""Daemons that are exported at once."""

FORGET_S = 3_600.0
"""Seconds after which a daemon that is away is forgotten, with its histograms."""

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper limits of the histograms: a small model takes milliseconds, all layers on a small machine seconds."""


@dataclass(frozen=True)
class LastWindow:
    """The last window of a stream. Values that are not known are None.

    Attributes:
        received_s, fresh_s: when it was received, monotonic, and for how long its level counts as present.
    """

    end_ns: int
    received_s: float
    fresh_s: float = FIRST_FRESH_S
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    latency_s: float | None = None


def _histogram(name: str, meaning: str, *labels: str) -> Histogram:
    return Histogram(name, meaning, labels, registry=None, buckets=BUCKETS_S)


@dataclass
class DaemonRecord:
    """What was received from one daemon.

    Attributes:
        status, status_s: the last status, and when it was received, monotonic.
        windows: the last window of each stream.
        stages, latencies: histograms over the windows that were received since this process began.
    """

    status: Status
    status_s: float
    windows: dict[str, LastWindow] = field(default_factory=dict)
    stages: Histogram = field(default_factory=lambda: _histogram(STAGE_SECONDS.name, STAGE_SECONDS.meaning, "stage"))
    latencies: Histogram = field(default_factory=lambda: _histogram(LATENCY_SECONDS.name, LATENCY_SECONDS.meaning))


@dataclass(frozen=True)
class LastStatus:
    """When an endpoint last brought a status: Unix time, and whether that was lately. None: it never did."""

    at_s: float | None = None
    is_fresh: bool = False


class Observed:
    """Takes in the messages of daemons. `endpoints`: where they publish, also those of which nothing was heard yet."""

    def __init__(
        self,
        endpoints: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock, self._wall_ns = clock, wall_ns
        self._began_ns = wall_ns()
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[float, float] | None] = dict.fromkeys(endpoints)  # monotonic and Unix seconds
        self._daemons: dict[str, DaemonRecord] = {}

    def note(self, endpoint: str, message: Message) -> None:
        """Take in a message that came from one of the endpoints. It must be the only copy of it."""
        with self._lock:
            if isinstance(message, Status):
                self._note_status(endpoint, message)
            elif (record := self._daemons.get(message.daemon)) is not None:
                match message:
                    case Embedding():
                        self._note_embedding(record, message)
                    case Event(event=EventName.SILENT):
                        self._note_silence(record, message)

    def endpoints(self) -> dict[str, LastStatus]:
        """Return for each endpoint when it last brought a status."""
        with self._lock:
            now_s = self._clock()
            return {
                endpoint: LastStatus(heard[1], now_s - heard[0] <= STALE_S) if heard is not None else LastStatus()
                for endpoint, heard in self._heard.items()
            }

    def present(self) -> dict[str, DaemonRecord]:
        """Return the daemons that are not away, by name, as they are now."""
        with self._lock:
            now_s = self._clock()
            found = {name: record for name, record in self._daemons.items() if now_s - record.status_s <= STALE_S}
            return {name: replace(record, windows=dict(record.windows)) for name, record in found.items()}

    def is_present(self, window: LastWindow) -> bool:
        """Return whether a window is so new that its level is the stream's present one."""
        return self._clock() - window.received_s <= window.fresh_s

    def _note_status(self, endpoint: str, status: Status) -> None:
        now_s = self._clock()
        if endpoint in self._heard:
            self._heard[endpoint] = (now_s, self._wall_ns() / 1e9)
        record = self._daemons.get(status.daemon)
        if record is None:
            for name in [name for name, old in self._daemons.items() if now_s - old.status_s > FORGET_S]:
                del self._daemons[name]
            if len(self._daemons) < MAX_DAEMONS:
                self._daemons[status.daemon] = DaemonRecord(status, now_s)
            return
        record.status, record.status_s = status, now_s
        for name in record.windows.keys() - status.streams.keys():
            del record.windows[name]

    def _note_embedding(self, record: DaemonRecord, message: Embedding) -> None:
        if message.replay and message.time.end_ns < self._began_ns:
            return  # from a history: no window of the time that is counted
        latency = message.latency_ns
        stages_ns = {"wait": latency.wait, "embed": latency.embed, "publish": latency.total - latency.wait - latency.embed}
        for stage, nanoseconds in stages_ns.items():
            record.stages.labels(stage).observe(max(0, nanoseconds) / 1e9)  # a sum that falls would be no counter
        total_s = max(0, latency.total) / 1e9
        record.latencies.observe(total_s)
        audio, end_ns = message.audio, message.time.end_ns
        window = LastWindow(end_ns, self._clock(), FIRST_FRESH_S, audio.rms_dbfs, audio.peak_dbfs, total_s)
        self._note_window(record, message.stream, window)

    def _note_silence(self, record: DaemonRecord, message: Event) -> None:
        match message.detail:
            case {"rms_dbfs": float() as rms_dbfs, "end": int() as end}:
                end_ns = message.time_ns + (end - message.index) * 1_000_000_000 // SAMPLE_RATE
                if not message.replay or end_ns >= self._began_ns:
                    self._note_window(record, message.stream, LastWindow(end_ns, self._clock(), FIRST_FRESH_S, rms_dbfs))

    @staticmethod
    def _note_window(record: DaemonRecord, stream: str, window: LastWindow) -> None:
        last = record.windows.get(stream)
        if last is not None:
            distance_s = abs(window.end_ns - last.end_ns) / 1e9
            window = replace(window, fresh_s=min(max(MIN_FRESH_S, FRESH_HOPS * distance_s), MAX_FRESH_S))
        elif len(record.windows) >= MAX_STREAMS:
            return
        record.windows[stream] = window
