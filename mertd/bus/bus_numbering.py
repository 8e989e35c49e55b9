"""Which messages of all daemons on a bus have come, and which are missing.

Rules of this file: no socket, no clock. `seq` counts per (boot, kind, stream) without holes. On the bus, the messages of a run
come in order: one that has come before is a duplicate, and a jump means that those between are gone for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mertd.bus.bus_holes import BusHole
from mertd.stream.client.sequence import Cursor
from mertd.wire import Embedding, Event

MAX_RUNS = 10_000
"""Streams, kinds and runs of daemons that are remembered. What is sent again of older ones would come twice."""


class StreamRun(NamedTuple):
    """Messages that are numbered together."""

    daemon: str
    stream: str
    kind: str
    boot: bytes


class BusNumbering:
    """The next `seq` of each run."""

    def __init__(self, resume: Cursor | None = None, places: Mapping[StreamRun, int] | None = None) -> None:
        """`resume`: what came before, whichever daemon it is of. `places`: the `seq` of the next message of runs."""
        self._resume = resume
        self._next: dict[StreamRun, int] = dict(places or {})  # the latest comes last
        self._runs = Counter(run[:3] for run in self._next)

    @property
    def places(self) -> Mapping[StreamRun, int]:
        """The `seq` of the next message of each run."""
        return self._next

    def has_run(self, message: Embedding | Event) -> bool:
        """Return whether a message of the same run came before, or is known to have come."""
        return run_of(message) in self._next

    def lost_before(self, message: Embedding | Event) -> int | None:
        """Return how many messages before this one are missing; None if it has come before."""
        expected = self._expected(run_of(message), message.seq)
        return message.seq - expected if message.seq >= expected else None

    def _expected(self, run: StreamRun, first: int) -> int:
        """Return the `seq` of the next message. Of a run that began while others were followed, all are expected."""
        if run in self._next:
            return self._next[run]
        if self._resume is not None:
            return self._resume.get(run.boot, {}).get((run.kind, run.stream), 0)
        return 0 if self._runs[run[:3]] else first

    def note(self, message: Embedding | Event) -> None:
        """Expect what follows on a message."""
        self._set(run_of(message), message.seq + 1)

    def note_hole(self, hole: BusHole) -> None:
        """Take in the announcement that messages are gone, which comes before the first one behind them."""
        run = StreamRun(hole.daemon, hole.stream, hole.kind, hole.boot)
        if run not in self._next:
            self._set(run, self._expected(run, hole.first))

    def _set(self, run: StreamRun, seq: int) -> None:
        if self._next.pop(run, None) is None:
            self._runs[run[:3]] += 1
        self._next[run] = seq
        while len(self._next) > MAX_RUNS:
            oldest = next(iter(self._next))
            del self._next[oldest]
            self._runs[oldest[:3]] -= 1
            if not self._runs[oldest[:3]]:
                del self._runs[oldest[:3]]


def run_of(message: Embedding | Event) -> StreamRun:
    """Return the run that a message belongs to."""
    return StreamRun(message.daemon, message.stream, message.kind, message.boot)
