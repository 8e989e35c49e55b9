"""What the page asks the memory, as compact JSON: which streams there are, a span of one of them, what sounds alike.

Everything here reads files and may take seconds: it is called in threads of its own. Times are milliseconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.errors import UsageError
from mertd.memory.changes.stream_reading import StreamKey, stream_keys
from mertd.memory.memory import Memory
from mertd.memory.rows import nominal_ns
from mertd.memory.similarity.vector_segment import SpanFilter
from mertd.view.board import finite, ms, short
from mertd.view.moment_facts import mark_facts, moment_facts
from mertd.view.pictures import Axes, Floats, find_axes, square
from mertd.view.span_reading import MemoryFiles, bounds_ns, is_trained, marks_of, nearest_window, read_windows
from mertd.view.span_sketch import SpanSketch

NS = 1_000_000
"""Nanoseconds in a millisecond."""

HOUR_NS = 3_600_000_000_000
"""Nanoseconds in an hour."""

DAY_NS = 86_400_000_000_000
"""Nanoseconds in a day."""

SQUARE = 480
"""Moments on each side of the square, at most."""

FINER = 3
"""Points of the line for each moment of the square."""

MAX_WINDOWS = 17_280
"""Windows that are read for a span, at most: a day at a hop of 5 s. Of a longer span, one in some is read."""

MIN_MS = 1_000
"""Shortest span, in milliseconds."""

MAX_MS = 366 * 86_400_000
"""Longest span, in milliseconds."""

HOPS_A_MOMENT = 1.5
"""Hops in a moment of the square, at least, so that none is empty between two windows."""

AXES_FROM_NS = 7 * DAY_NS
"""How long before a day the sound is looked at that the axes of its path come from."""

AXES_MOMENTS = 256
"""Moments that the axes come from, at most."""

READ_A_MOMENT = 8
"""Windows that are read for each of them, at most."""

MAX_AXES = 32
"""Days and streams whose axes are kept."""

MOMENTS = 8
"""Similar moments that are shown."""

APART_WINDOWS = 4
"""Lengths of a window around a moment in which nothing counts as another moment."""


SECTION_NS = 2 * HOUR_NS
"""Nanoseconds before and after a window in which the changes are looked for between which it lies."""


class Remembered:
    """A memory, as the page sees it. Used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises `StoreError` if there is none."""
        self._memory = Memory(folder)
        self._files = MemoryFiles(self._memory.folder)
        self._keys: dict[str, StreamKey] = {}
        self._axes: OrderedDict[tuple[str, int], Axes] = OrderedDict()

    def streams(self) -> list[dict[str, Any]]:
        """Return the streams that are remembered, the one that was heard last first. Raises `StoreError`."""
        folder = self._memory.folder
        self._keys = {name_of(key): key for key in stream_keys(folder)}
        found = []
        for name, key in self._keys.items():
            bounds = bounds_ns(folder, key)
            if bounds is not None:
                first_ns, last_ns, hop_ns = bounds
                described = {
                    "daemon": short(key.daemon),
                    "stream": short(key.stream),
                    "size": key.size,
                    "space": short(key.space),
                }
                times = {"first_ms": ms(first_ns), "last_ms": ms(last_ns), "hop_ms": ms(hop_ns)}
                found.append({"key": name, **described, **times, "trained": is_trained(folder, key)})
        return sorted(found, key=lambda stream: -stream["last_ms"])

    def prepare(self) -> None:
        """Find what the first browser would wait for: the axes of the stream that was heard last, on its last day here.

        What only the first span needs, such as parts of numpy, is loaded, too. Raises `StoreError`.
        """
        for stream in self.streams()[:1]:
            last_ms = stream["last_ms"]
            midnight = datetime.fromtimestamp(last_ms / 1000).replace(hour=0, minute=0, second=0, microsecond=0)
            self.span(stream["key"], last_ms - HOUR_NS // NS, last_ms + 1, int(midnight.timestamp()) * 1000)

    def span(self, name: str, since_ms: int, until_ms: int, midnight_ms: int) -> dict[str, Any]:
        """Return the novelty of a span, its marks, its square and its path. `midnight_ms`: where the browser's day began.

        Raises `UsageError` for what is not remembered, `StoreError` if it cannot be read.
        """
        key = self._key(name)
        check_span(since_ms, until_ms)
        folder = self._memory.folder
        since_ns, until_ns = since_ms * NS, until_ms * NS
        bounds = bounds_ns(folder, key)
        hop_ns = max(bounds[2] if bounds else 0, NS)
        step = max(1, -(-(until_ns - since_ns) // (hop_ns * MAX_WINDOWS)))
        moments = int(max(8, min(SQUARE, (until_ns - since_ns) / (HOPS_A_MOMENT * step * hop_ns))))
        sketch = SpanSketch(since_ns, until_ns, FINER * moments)
        for block in read_windows(self._files, key, since_ns, until_ns, step):
            sketch.add(block)
        times, values = sketch.line()
        means, counts = merged(*sketch.means(), FINER)
        return {
            "key": name,
            "stream": short(key.stream),
            "since_ms": since_ms,
            "until_ms": until_ms,
            "windows": sketch.count,
            "one_in": step,
            "trained": is_trained(folder, key),
            "variance": sketch.variance,
            "line": {"ms": (times // NS).tolist(), "novelty": [finite(float(value)) for value in values]},
            "levels": [finite(float(level)) for level in np.round(sketch.levels(), 1)],
            "marks": [
                mark_facts(event, at_ns, msgpack.unpackb(detail))
                for event, at_ns, detail in marks_of(self._files, key, since_ns, until_ns)
            ],
            "square": {"size": moments, "data": base64.b64encode(square(means, counts).tobytes()).decode()},
            "path": self._path(name, key, means, counts, midnight_ms, hop_ns),
        }

    def similar(self, name: str, at_ms: int | None) -> dict[str, Any]:
        """Return the moments that sound most like the one at a time, or like the newest one.

        Raises `UsageError` for what is not remembered, `StoreError` if it cannot be read.
        """
        key = self._key(name)
        folder = self._memory.folder
        if at_ms is None:
            bounds = bounds_ns(folder, key)
            at_ns = bounds[1] + nominal_ns(key.length, SAMPLE_RATE) // 2 if bounds else 0
        else:
            at_ns = at_ms * NS
        found = nearest_window(self._files, key, at_ns)
        if found is None:
            raise UsageError("nothing of this stream is remembered around this time")
        start_ns, end_ns, vector = found
        without = self._section(key, start_ns, end_ns)
        moments = self._memory.similar(vector, key.space, MOMENTS, SpanFilter(without=(without,)))
        names = self._memory.streams()
        return {
            "key": name,
            "start_ms": ms(start_ns),
            "end_ms": ms(end_ns),
            "trained": is_trained(folder, key),
            "moments": [moment_facts(moment, names[moment.stream]) for moment in moments],
        }

    def _section(self, key: StreamKey, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return what is one moment with a window: the sound up to the nearest changes, or a few lengths of the window."""
        apart_ns = APART_WINDOWS * (end_ns - start_ns)
        marks = marks_of(self._files, key, start_ns - SECTION_NS, end_ns + SECTION_NS)
        middle_ns = (start_ns + end_ns) // 2
        before = [at_ns for event, at_ns, _ in marks if event == "change" and at_ns <= middle_ns]
        after = [at_ns for event, at_ns, _ in marks if event == "change" and at_ns > middle_ns]
        begin = before[-1] if before else start_ns
        end = after[0] if after else end_ns
        return min(begin, start_ns - apart_ns), max(end, end_ns + apart_ns)

    def _key(self, name: str) -> StreamKey:
        if name not in self._keys:
            self._keys = {name_of(key): key for key in stream_keys(self._memory.folder)}
        if name not in self._keys:
            raise UsageError("nothing of this stream is remembered any more")
        return self._keys[name]

    def _path(
        self, name: str, key: StreamKey, means: Floats, counts: NDArray[np.int64], midnight_ms: int, hop_ns: int
    ) -> dict[str, Any]:
        axes = self._axes_of(name, key, midnight_ms * NS, hop_ns)
        if axes is None or not (counts > 0).any():
            return {"x": [], "y": [], "share": []}
        places = axes.place(means)
        places[counts == 0] = np.nan
        x, y = ([finite(float(value)) for value in column] for column in places.T)
        return {"x": x, "y": y, "share": [round(share, 3) for share in axes.share]}

    def _axes_of(self, name: str, key: StreamKey, midnight_ns: int, hop_ns: int) -> Axes | None:
        """Return the axes of a day: from what was heard in the week before it, or else from the first hour of the day.

        They stay as they are once they are known, also in other processes.
        """
        known = self._axes.get((name, midnight_ns))
        if known is not None:
            return known
        first, last = self._first_and_last(key, midnight_ns - AXES_FROM_NS, midnight_ns)
        is_known = last - first >= HOUR_NS
        if not is_known:
            first, last = self._first_and_last(key, midnight_ns, midnight_ns + DAY_NS)
            is_known, last = last - first >= HOUR_NS, min(last, first + HOUR_NS)
        axes = find_axes(self._moments(key, first, last, hop_ns))
        if axes is not None and is_known:
            self._axes[name, midnight_ns] = axes
            while len(self._axes) > MAX_AXES:
                self._axes.popitem(last=False)
        return axes

    def _first_and_last(self, key: StreamKey, since_ns: int, until_ns: int) -> tuple[int, int]:
        """Return when the first window of a time began, and the last one; twice the same if there is none."""
        bounds = bounds_ns(self._memory.folder, key, since_ns, until_ns)
        return bounds[:2] if bounds is not None else (since_ns, since_ns)

    def _moments(self, key: StreamKey, since_ns: int, last_ns: int, hop_ns: int) -> Floats:
        """Return mean directions of a time, (n, size), spread over it."""
        step = max(1, (last_ns - since_ns) // (hop_ns * READ_A_MOMENT * AXES_MOMENTS))
        sketch = SpanSketch(since_ns, last_ns + 1, AXES_MOMENTS)
        for block in read_windows(self._files, key, since_ns, last_ns + 1, step):
            sketch.add(block)
        means, counts = sketch.means()
        return means[counts > 0]


def check_span(since_ms: int, until_ms: int) -> None:
    """Raise `UsageError` if a span is not one."""
    if not (abs(since_ms) < 10**14 and MIN_MS <= until_ms - since_ms <= MAX_MS):
        raise UsageError("a span lasts from a second to a year")


def name_of(key: StreamKey) -> str:
    """Return what a stream is called in addresses: nothing of it is foreign text."""
    return hashlib.sha256(repr(astuple(key)).encode()).hexdigest()[:16]


def merged(means: Floats, counts: NDArray[np.int64], group: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the means of groups of neighbours, and the sums of their counts."""
    sums = (means * counts[:, None]).reshape(len(counts) // group, group, -1).sum(axis=1)
    grouped = counts.reshape(-1, group).sum(axis=1)
    return np.asarray(sums / np.maximum(grouped, 1)[:, None], np.float32), grouped
