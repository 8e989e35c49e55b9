"""What a daemon says about itself: the status message, and a line for the service manager."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mertd import __version__
from mertd.daemon.companion import Companion
from mertd.daemon.embed_worker import EmbedWorker
from mertd.daemon.run_state import RunState
from mertd.daemon.streams import Streams
from mertd.stream.server.publisher import Publisher
from mertd.vocabulary import HealthState
from mertd.wire import Status, fit

MAX_STREAMS_BYTES = 650_000
"""Bytes of what a status says about streams, at most: some 2,000 of them, of the 1,048,576 that a payload has room for."""

MAX_PROCESSES_BYTES = 250_000
"""Bytes of what it says about processes, at most."""

MAX_NAMED = 8
"""Streams that a line for the service manager names one by one."""


@dataclass(frozen=True)
class StatusSources:
    """What the status is collected from."""

    state: RunState
    streams: Streams
    worker: EmbedWorker
    publisher: Publisher
    own: Callable[[], dict[str, Any]]  # what the supervisor adds to the entry about its own process
    companions: Sequence[Companion] = ()


class StatusReporter:
    """Collects the counters of a daemon, of its streams and of its processes."""

    def __init__(self, boot: bytes, daemon: str, sources: StatusSources) -> None:
        self._boot = boot
        self._daemon = daemon
        self._sources = sources
        self._started_ns = time.monotonic_ns()

    def status(self) -> Status:
        """Return all counters, now."""
        sources = self._sources
        model = sources.worker.model
        return Status(
            boot=self._boot,
            daemon=self._daemon,
            time_ns=time.time_ns(),
            uptime_ns=time.monotonic_ns() - self._started_ns,
            version=__version__,
            phase=sources.state.phase.value,
            model=fit(model.info.as_dict()) if model is not None else {},
            streams=fit({name: stream.status for name, stream in sources.streams.items()}, MAX_STREAMS_BYTES),
            processes=fit(self._processes(), MAX_PROCESSES_BYTES),
            published=sources.publisher.published,
            dropped=sources.publisher.dropped,
        )

    def _processes(self) -> dict[str, dict[str, Any]]:
        sources = self._sources
        own = {"pid": os.getpid(), "restarts": 0, "state": HealthState.HEALTHY.value, **sources.own()}
        captures = {stream.process.name: stream.process_status for stream in sources.streams.values()}
        others = {companion.process.name: companion.process.as_dict for companion in sources.companions}
        return {"supervisor": own, sources.worker.process.name: sources.worker.process.as_dict, **captures, **others}

    def summary(self) -> str:
        """Return in one line how the daemon is doing."""
        model = self._sources.worker.model
        parts = [f"{model.info.model.name} on {model.info.model.backend}" if model is not None else "model not ready"]
        streams = self._sources.streams
        if len(streams) > MAX_NAMED:
            states = Counter(stream.state.value for stream in streams.values())
            embedded = sum(stream.timeline.counters["embedded"] for stream in streams.values())
            skipped = sum(stream.timeline.counters["skipped"] for stream in streams.values())
            found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            return f"{parts[0]}; {len(streams)} streams, {found}: {embedded} embedded, {skipped} skipped"
        for name, stream in streams.items():
            counts = stream.timeline.counters
            parts.append(f"{name} {stream.state}: {counts['embedded']} embedded, {counts['skipped']} skipped")
        return "; ".join(parts)
