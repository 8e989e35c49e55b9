"""Pages of messages for a daemon's clients, from the memory: what the daemon itself no longer has."""

from __future__ import annotations

from pathlib import Path

from mertd.memory.memory import Memory
from mertd.memory.memory_folder import segments
from mertd.memory.queries import FOREVER_NS, Selection, bounds_within, first_within
from mertd.memory.segment import KIND_TABLES, Segment
from mertd.stream.server.history import PAGE_MESSAGES
from mertd.wire import Embedding, Event, encode

PAGE_BYTES = 1_000_000
"""Bytes of a page, at most: a little less than a page of the daemon's own history."""

MAX_SEQ = (1 << 63) - 1
"""The largest number of a message that is stored."""

Frames = list[list[bytes]]


def page(folder: Path, boot: bytes, kind: str, stream: str, first: int, end: int | None) -> tuple[Frames, bool]:
    """Return messages with first <= `seq` < end (None: up to the newest) in frames, and whether more are there.

    Raises `StoreError`.
    """
    if not segments(folder) or kind not in KIND_TABLES:
        return [], False
    last = MAX_SEQ if end is None else min(end, MAX_SEQ)
    return in_frames(Memory(folder).between(boot, kind, stream, max(first, 0), last, PAGE_MESSAGES + 1))


def page_since(folder: Path, daemon: str, after: bytes | None, kind: str, stream: str, since_ns: int) -> tuple[Frames, bool]:
    """Return the first messages since a time of the earliest run of a daemon that has any, and whether it has more.

    `after`: if this run is known here, return the first messages of the first run after it, whatever their time. A clock may
    have been set; but of a run that was killed soon, nothing may have been stored. Raises `StoreError`.
    """
    if not segments(folder) or kind not in KIND_TABLES:
        return [], False
    memory = Memory(folder)
    passed = -1 if after is None else _last_source(memory, after)
    selection = Selection(since_ns=max(since_ns, -FOREVER_NS)) if passed < 0 else Selection()
    for segment in memory.segments():
        if bounds_within(segment, kind, selection) is None:
            continue
        for number, source in sorted(segment.sources().items()):
            if number <= passed or source.boot == after or (source.daemon, source.stream) != (daemon, stream):
                continue
            if (first := first_within(segment, kind, number, selection)) is not None:
                return in_frames(memory.between(source.boot, kind, stream, first, MAX_SEQ, PAGE_MESSAGES + 1))
    return [], False


def _last_source(memory: Memory, boot: bytes) -> int:
    """Return the highest id of a source of a run; what has a higher one began later. The newest files know most runs."""
    for segment in memory.segments(newest_first=True):
        if found := _ids(segment, boot):
            return max(found)
    return -1


def _ids(segment: Segment, boot: bytes) -> list[int]:
    return [number for number, source in segment.sources().items() if source.boot == boot]


def in_frames(messages: list[Embedding | Event], limit: int = PAGE_BYTES) -> tuple[Frames, bool]:
    """Return as many as go on a page, and whether there are more. `messages`: at most one too many. `limit`: bytes."""
    frames = [encode(message) for message in messages[:PAGE_MESSAGES]]
    used = 0
    for place, pair in enumerate(frames):
        used += sum(map(len, pair))
        if used > limit and place:
            return frames[:place], True
    return frames, len(messages) > PAGE_MESSAGES
