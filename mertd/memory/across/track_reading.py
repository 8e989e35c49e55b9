"""The windows of a stream of the memory, as they are compared with those of another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.memory.across.track import RawTrack
from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.half_floats import unpack_rows
from mertd.memory.memory_folder import opened
from mertd.memory.queries import FOREVER_NS
from mertd.memory.rows import nominal_ns
from mertd.memory.segment import explained
from mertd.memory.similarity.vector_segment import Floats

BLOCK_ROWS = 4_096
"""Windows that are read at once."""

MAX_SIZE = 1_024
"""Numbers of a vector that are kept; longer ones, of several layers, are mixed into so many."""

QUERY = """
SELECT start_ns, stretch_ns, error_ns, rate, exponent, vector FROM embeddings
JOIN sources ON sources.id = source JOIN streams ON streams.id = stream JOIN forms ON forms.id = form
WHERE daemon = ? AND streams.name = ? AND space = ? AND rows * size = ? AND length = ? AND start_ns >= ? AND start_ns < ?
ORDER BY start_ns DESC LIMIT ?
"""
"""The newest windows of a stream that begin within a time."""


def read_track(folder: Path, key: StreamKey, since_ns: int, until_ns: int, newest: int = FOREVER_NS) -> RawTrack | None:
    """Return the windows of a stream that begin within a time, at most so many of the newest; None if there are none.

    Raises `StoreError`.
    """
    middles: list[NDArray[np.int64]] = []
    errors: list[NDArray[np.int64]] = []
    vectors: list[Floats] = []
    mixing = _mixing(key.size)
    values = (key.daemon, key.stream, key.space, key.size, key.length, since_ns, until_ns)
    left = newest
    for segment in opened(folder, newest_first=True):
        with explained(segment.path):
            cursor = segment.db.execute(QUERY, (*values, left))
            while rows := cursor.fetchmany(BLOCK_ROWS):
                start_ns, stretch_ns, error_ns, rates, exponents, data = zip(*rows, strict=True)
                lengths = np.array([nominal_ns(key.length, rate) for rate in rates], np.int64)
                middles.append(np.array(start_ns, np.int64) + (np.array(stretch_ns, np.int64) + lengths) // 2)
                errors.append(np.array(error_ns, np.int64))
                found = unpack_rows(np.array(exponents, np.int32), list(data))
                vectors.append(found if mixing is None else found @ mixing)
                left -= len(rows)
        if left <= 0:
            break
    if not middles:
        return None
    middle_ns = np.concatenate(middles)
    order = np.argsort(middle_ns, kind="stable")
    order = order[
        np.diff(middle_ns[order], prepend=middle_ns[order[0]] - 1) > 0
    ]  # two windows at one time: a clock was set back
    length_ns = nominal_ns(key.length, int(rates[0]))
    return RawTrack(middle_ns[order], np.concatenate(errors)[order], length_ns, np.concatenate(vectors)[order])


def _mixing(size: int) -> Floats | None:
    """Return directions that keep distances between long vectors nearly (Johnson and Lindenstrauss); None for short ones."""
    if size <= MAX_SIZE:
        return None
    signs = np.random.default_rng(0).integers(0, 2, (size, MAX_SIZE), np.int8)
    return (2 * signs - np.int8(1)).astype(np.float32) / np.float32(MAX_SIZE**0.5)
