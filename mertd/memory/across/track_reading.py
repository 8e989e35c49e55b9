"""The windows of a stream of the memory, as they are compared with those of another one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.memory.across.track import RawTrack
from mertd.memory.changes.stream_reading import StreamKey, forms_of, sources_of
from mertd.memory.half_floats import unpack_rows
from mertd.memory.memory_folder import opened
from mertd.memory.queries import FOREVER_NS, marks
from mertd.memory.rows import nominal_ns
from mertd.memory.segment import Segment, explained
from mertd.memory.similarity.vector_segment import Floats

BLOCK_ROWS = 4_096
"""Windows that are read at once."""

MAX_SIZE = 1_024
"""Numbers of a vector that are kept; longer ones, of several layers, are mixed into so many."""

COLUMNS = "start_ns, stretch_ns, error_ns, form, exponent, vector"
"""What is read of a window."""


def read_track(folder: Path, key: StreamKey, since_ns: int, until_ns: int, newest: int = FOREVER_NS) -> RawTrack | None:
    """Return the windows of a stream that begin within a time, at most so many of the newest; None if there are none.

    Raises `StoreError`.
    """
    middles: list[NDArray[np.int64]] = []
    errors: list[NDArray[np.int64]] = []
    vectors: list[Floats] = []
    mixing = _mixing(key.size)
    left = newest
    length_ns = 0
    for segment in opened(folder, newest_first=True):
        forms = forms_of(segment, key)
        lengths = {form: nominal_ns(key.length, rate) for form, rate in forms.items()}
        for source in reversed(sources_of(segment, key)):
            for rows in _pages(segment, source, forms, since_ns, until_ns, left):
                start_ns, stretch_ns, error_ns, form, exponents, data = zip(*rows, strict=True)
                nominal = np.array([lengths[one] for one in form], np.int64)
                length_ns = int(nominal[0])
                middles.append(np.array(start_ns, np.int64) + (np.array(stretch_ns, np.int64) + nominal) // 2)
                errors.append(np.array(error_ns, np.int64))
                found = unpack_rows(np.array(exponents, np.int32), list(data))
                vectors.append(found if mixing is None else found @ mixing)
                left -= len(rows)
            if left <= 0:
                break
        if left <= 0:
            break
    if not middles:
        return None
    middle_ns = np.concatenate(middles)
    order = np.argsort(middle_ns, kind="stable")
    later = np.diff(middle_ns[order], prepend=middle_ns[order[0]] - 1) > 0
    order = order[later]  # two windows at one time: a clock was set back
    return RawTrack(middle_ns[order], np.concatenate(errors)[order], length_ns, np.concatenate(vectors)[order])


def _pages(
    segment: Segment, source: int, forms: Collection[int], since_ns: int, until_ns: int, limit: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the newest windows of one run of a stream that begin within a time, some at once, newest first.

    They lie in the order of their numbers, which is that of their times: so nothing is read of other streams and times.
    """
    first, end = (_first_since(segment, source, time_ns) for time_ns in (since_ns, until_ns))
    with explained(segment.path):
        cursor = segment.db.execute(
            f"SELECT {COLUMNS} FROM embeddings WHERE source = ? AND seq >= ? AND seq < ? AND +form IN ({marks(forms)})"
            " AND +start_ns >= ? AND +start_ns < ? ORDER BY seq DESC LIMIT ?",
            (source, first, end, *forms, since_ns, until_ns, limit),
        )
        while rows := cursor.fetchmany(BLOCK_ROWS):
            yield rows


def _first_since(segment: Segment, source: int, time_ns: int) -> int:
    """Return the number of the first window of a run that begins at a time or later, or of the next one to come."""
    ((low, high),) = segment.rows("SELECT min(seq), max(seq) + 1 FROM embeddings WHERE source = ?", (source,))
    if low is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        ((seq, start_ns),) = segment.rows(
            "SELECT seq, start_ns FROM embeddings WHERE source = ? AND seq >= ? ORDER BY seq LIMIT 1", (source, middle)
        )
        if start_ns >= time_ns:
            high = middle
        else:
            low = seq + 1
    return int(low)


def _mixing(size: int) -> Floats | None:
    """Return directions that keep distances between long vectors nearly (Johnson and Lindenstrauss); None for short ones."""
    if size <= MAX_SIZE:
        return None
    signs = np.random.default_rng(0).integers(0, 2, (size, MAX_SIZE), np.int8)
    return (2 * signs - np.int8(1)).astype(np.float32) / np.float32(MAX_SIZE**0.5)
