"""The windows of one stream in the memory, in the order in which their daemon numbered them, from any place on.

Runs of a daemon follow on each other as they were first heard of. A window that came late, from a history, stands where its
number says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mertd.memory.changes.detector import begins_a_step
from mertd.memory.changes.stream_window import StreamWindow
from mertd.memory.half_floats import unpack
from mertd.memory.memory_folder import opened
from mertd.memory.queries import marks
from mertd.memory.rows import nominal_ns
from mertd.memory.segment import Segment

PAGE = 512
"""Windows that are read at once."""


@dataclass(frozen=True, order=True)
class StreamKey:
    """Windows that may be compared: of one stream, over all runs of its daemon, in one space."""

    daemon: str
    stream: str
    space: str
    size: int  # numbers in a vector
    length: int  # samples in a window


class Place(NamedTuple):
    """A window in the memory. Places are ordered as the windows are."""

    file: int
    source: int  # the stream in one run of its daemon
    seq: int


BEGINNING = Place(-1, -1, -1)
"""Before all windows."""


def stream_keys(folder: Path, boot: bytes | None = None, first_file: int = -1) -> list[StreamKey]:
    """Return the streams with windows: of one run of a daemon or of all, in files from a number on. Raises `StoreError`."""
    keys: set[StreamKey] = set()
    for segment in opened(folder, first_file):
        found = segment.rows(
            "SELECT daemon, streams.name, space, rows * size, length FROM sources"
            " JOIN streams ON streams.id = stream JOIN embeddings ON source = sources.id"
            " AND seq = (SELECT max(seq) FROM embeddings WHERE source = sources.id) JOIN forms ON forms.id = form"
            " WHERE ? IS NULL OR boot = ?",
            (boot, boot),
        )
        keys |= {StreamKey(*key) for key in found}
    return sorted(keys)


def windows(folder: Path, key: StreamKey, after: Place = BEGINNING) -> Iterator[tuple[Place, StreamWindow]]:
    """Yield the windows behind a place, each with its own place. Raises `StoreError`."""
    for segment in opened(folder, after.file):
        sources, forms = sources_of(segment, key), forms_of(segment, key)
        for source, boot in sources.items():
            place = Place(segment.number, source, -1)
            if (place.file, source) < after[:2]:
                continue
            place = max(place, after)
            while rows := _page(segment, "seq, epoch, form, first, start_ns, stretch_ns, exponent, vector", place, forms):
                for seq, epoch, form, first, start_ns, stretch_ns, exponent, vector in rows:
                    place = place._replace(seq=seq)
                    end_ns = start_ns + nominal_ns(key.length, forms[form]) + stretch_ns
                    values = unpack(exponent, vector)
                    yield place, StreamWindow(boot, epoch, seq, first, key.length, start_ns, end_ns, values)


def first_since(folder: Path, key: StreamKey, since_ns: int) -> Place | None:
    """Return the place of the first window that begins at a time or later; None if there is none. Raises `StoreError`."""
    for segment in opened(folder):
        sources, forms = sources_of(segment, key), forms_of(segment, key)
        ((newest,),) = segment.rows("SELECT max(start_ns) FROM embeddings")
        if newest is None or newest < since_ns:
            continue
        found = segment.rows(
            f"SELECT source, min(seq) FROM embeddings WHERE start_ns >= ? AND +source IN ({marks(sources)})"
            f" AND +form IN ({marks(forms)}) GROUP BY source ORDER BY source LIMIT 1",
            (since_ns, *sources, *forms),
        )
        if found:
            return Place(segment.number, *found[0])
    return None


def first_of_run(folder: Path, key: StreamKey, boot: bytes, after_seq: int) -> Place | None:
    """Return the place of the first window behind a number in one run; None if there is none. Raises `StoreError`."""
    for segment in opened(folder):
        forms = forms_of(segment, key)
        for source, run in sources_of(segment, key).items():
            if run == boot and (rows := _page(segment, "seq", Place(segment.number, source, after_seq), forms)):
                return Place(segment.number, source, rows[0][0])
    return None


def back_from(folder: Path, key: StreamKey, place: Place, used: int) -> tuple[Place, bool]:
    """Return a place so far before a window that a detector uses `used` windows between them, and whether any are left out.

    Raises `StoreError`.
    """
    for segment in opened(folder, newest_first=True):
        if segment.number > place.file:
            continue
        sources, forms = sources_of(segment, key), forms_of(segment, key)
        for source in reversed(sources):
            at = min(Place(segment.number, source, 1 << 62), place)
            if at[:2] != (segment.number, source):
                continue
            following: tuple[int, int] | None = None
            while rows := _page(segment, "seq, epoch, first", at, forms, backwards=True):
                for seq, epoch, first in rows:
                    at = at._replace(seq=seq)
                    if following is None or following[0] != epoch or begins_a_step(first, following[1], key.length):
                        used -= 1
                        if used < 0:
                            return at, True
                    following = (epoch, first)
    return BEGINNING, False


def sources_of(segment: Segment, key: StreamKey) -> dict[int, bytes]:
    """Return the runs of a stream in a file: the boot by the number of the source, in the order in which they were heard of."""
    return dict(
        segment.rows(
            "SELECT sources.id, boot FROM sources JOIN streams ON streams.id = stream WHERE daemon = ? AND name = ?"
            " ORDER BY sources.id",
            (key.daemon, key.stream),
        )
    )


def forms_of(segment: Segment, key: StreamKey) -> dict[int, int]:
    """Return the forms of the stream's windows in a file, each with its samples a second."""
    return dict(
        segment.rows(
            "SELECT id, rate FROM forms WHERE space = ? AND rows * size = ? AND length = ?",
            (key.space, key.size, key.length),
        )
    )


def _page(segment: Segment, columns: str, place: Place, forms: dict[int, int], backwards: bool = False) -> Sequence[Any]:
    beyond, order = ("<", "DESC") if backwards else (">", "ASC")
    return segment.rows(
        f"SELECT {columns} FROM embeddings WHERE source = ? AND seq {beyond} ? AND +form IN ({marks(forms)})"
        f" ORDER BY seq {order} LIMIT {PAGE}",
        (place.source, place.seq, *forms),
    )
