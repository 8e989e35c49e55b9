"""What is replayed: the messages of one daemon from a span of the memory, in the order in which they were published.

Rules of this file: no socket, no clock. The same memory and the same span give the same messages in the same order. Files are
read in pages, and nothing of them is locked between two pages, however long a replay takes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mertd.errors import StoreError, UsageError
from mertd.memory.memory import Memory
from mertd.memory.queries import Selection, bounds_within, first_within, numbered_within
from mertd.memory.segment import KIND_TABLES, Segment
from mertd.wire import REPLAY_MARK, Embedding, Event

PAGE = 64
"""Messages that are read at once: 0.2 MB of one layer."""

STEP_NS = 10_000_000_000
"""Nanoseconds by which a message may lie before its predecessor; more is a clock that was set back."""

BOOT_BYTES = 16
"""Bytes of the number of a run."""


Key = tuple[bytes, str, str]
"""Number of a run in the replay, kind and stream."""


@dataclass(frozen=True)
class Played:
    """A message as it is published. `when_ns`: when the original was, on a clock that never steps back."""

    message: Embedding | Event
    when_ns: int


def replayed_boot(boot: bytes) -> bytes:
    """Return the number that a run of a daemon has in replays: always the same, and never that of the run itself."""
    return hashlib.sha256(b"mertd replay" + boot).digest()[:BOOT_BYTES]


def as_replayed(message: Embedding | Event) -> Embedding | Event:
    """Return a message of the memory as a replay publishes it: of another daemon and run, and otherwise as it was."""
    return replace(message, boot=replayed_boot(message.boot), daemon=REPLAY_MARK + message.daemon, replay=True)


class RememberedSpan:
    """A span of a memory.

    Attributes:
        daemon: whose messages it holds.
        streams: names of its streams.
        firsts: the lowest `seq` of each run, kind and stream.
        first_ns, last_ns: times of its first and last message, by the start of windows.
    """

    def __init__(self, folder: Path | None, selection: Selection, daemon: str | None = None) -> None:
        """Look what is there. `daemon`: which one, needed if there are several.

        Raises `StoreError` if nothing is, `UsageError` if several daemons are and none is named.
        """
        self._memory = Memory(folder)
        found: dict[str, set[str]] = {}
        times: list[tuple[int, int]] = []
        self._boots: dict[bytes, bytes] = {}  # of runs, by their number in the replay; the earliest comes first
        self.firsts: dict[Key, int] = {}
        for segment in self._memory.segments():
            bounds = {kind: span for kind in KIND_TABLES if (span := bounds_within(segment, kind, selection)) is not None}
            if bounds and self._look_for_streams(segment, bounds.keys(), selection, daemon, found):
                times += bounds.values()
        if len(found) > 1:
            raise UsageError(
                f"{self._memory.folder} has messages of {len(found)} daemons from this time; choose one with --daemon: "
                + ", ".join(sorted(found))
            )
        if not found:
            known = sorted({name for name, _ in self._memory.streams().values()})
            of = f" of the daemon {daemon}" if daemon in known else ""
            unknown = f"; it knows {', '.join(known) or 'no daemon yet'}, not {daemon}" if daemon and not of else ""
            raise StoreError(
                f"nothing{of} to replay from this time and these streams in {self._memory.folder}{unknown}; "
                "`mertd memory info` shows what there is"
            )
        ((self.daemon, streams),) = found.items()
        self.streams = sorted(streams)
        self.first_ns = min(first for first, _ in times)
        self.last_ns = max(last for _, last in times)
        # What is stored while the replay runs is not in it.
        self._selection = replace(selection, until_ns=min(selection.until_ns, self.last_ns + 1))

    def _look_for_streams(
        self, segment: Segment, kinds: Collection[str], selection: Selection, daemon: str | None, found: dict[str, set[str]]
    ) -> bool:
        """Add the streams of a file that have messages in the span, by daemon. Return whether there are any."""
        any_found = False
        for number, source in sorted(segment.sources().items()):
            if daemon not in (None, source.daemon) or (selection.streams and source.stream not in selection.streams):
                continue
            for kind in kinds:
                if (first := first_within(segment, kind, number, selection)) is not None:
                    boot = replayed_boot(source.boot)
                    found.setdefault(source.daemon, set()).add(source.stream)
                    self._boots[boot] = source.boot
                    self.firsts.setdefault((boot, kind, source.stream), first)
                    any_found = True
        return any_found

    @property
    def folder(self) -> Path:
        return self._memory.folder

    def messages(self) -> Iterator[Played]:
        """Yield all messages, run by run, and within a run as they were published. Raises `StoreError`."""
        clock = _Clock()
        for segment in self._memory.segments():
            runs: dict[bytes, list[int]] = {}
            for number, source in sorted(segment.sources().items()):
                if source.daemon == self.daemon and source.stream in self.streams:
                    runs.setdefault(source.boot, []).append(number)
            for numbers in runs.values():
                parts = [self._in_order(segment, kind, number) for number in numbers for kind in KIND_TABLES]
                for played in heapq.merge(*parts, key=lambda played: played.when_ns):
                    yield Played(as_replayed(played.message), clock.forward(played.when_ns))

    def between(self, boot: bytes, kind: str, stream: str, first: int, end: int, limit: int) -> list[Embedding | Event]:
        """Return messages with first <= `seq` < end of a run, by its number in the replay. Raises `StoreError`."""
        if boot not in self._boots:
            return []
        return [as_replayed(m) for m in self._memory.between(self._boots[boot], kind, stream, first, end, limit)]

    def first_since(self, boot: bytes, kind: str, stream: str, since_ns: int) -> int | None:
        """Return the lowest `seq` of a run, by its number in the replay, from a time on; None if it has none."""
        selection = replace(self._selection, since_ns=max(self._selection.since_ns, since_ns))
        for segment in self._memory.segments():
            for number, source in segment.sources().items():
                if (source.boot, source.stream) != (self._boots[boot], stream):
                    continue
                if (first := first_within(segment, kind, number, selection)) is not None:
                    return first
        return None

    @property
    def runs(self) -> list[bytes]:
        """Numbers of the runs in the replay, in order."""
        return list(self._boots)

    def _in_order(self, segment: Segment, kind: str, source: int) -> Iterator[Played]:
        """Yield the messages of one kind and source of a file by `seq`, with times that do not go back."""
        clock = _Clock()
        first = 0
        while page := numbered_within(segment, kind, source, first, self._selection, PAGE):
            for message in page:
                yield Played(message, clock.forward(published_ns(message)))
            first = page[-1].seq + 1


class _Clock:
    """Makes times of messages that follow on each other a clock that never goes back."""

    def __init__(self) -> None:
        self._now_ns: int | None = None
        self._offset_ns = 0

    def forward(self, when_ns: int) -> int:
        """Return the time of the next message."""
        if self._now_ns is None:
            self._now_ns = when_ns
        if when_ns + self._offset_ns < self._now_ns - STEP_NS:
            self._offset_ns = self._now_ns - when_ns
        self._now_ns = max(self._now_ns, when_ns + self._offset_ns)
        return self._now_ns


def published_ns(message: Embedding | Event) -> int:
    """Return when a message was published, as far as it says."""
    if isinstance(message, Event):
        return message.time_ns
    return message.time.end_ns + message.latency_ns.total
