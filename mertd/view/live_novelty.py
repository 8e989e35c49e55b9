"""Novelty and changes of what is heard now, for a page without a memory and for the newest end of one with it.

Rules of this file: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from mertd.memory.changes.detector import HALF, ChangeDetector, begins_a_step
from mertd.memory.changes.direction_spread import Direction, direction
from mertd.memory.changes.novelty import novelty, side_weights
from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.changes.stream_window import Change, window_of
from mertd.view.board import finite, ms, short
from mertd.view.remembered import name_of
from mertd.view.span_sketch import GAP_STEPS, MIN_VARIANCE
from mertd.wire import Embedding

MAX_STREAMS = 64
"""Streams that are looked at; each takes about 2 MB."""

MAX_POINTS = 8_640
"""Values that are kept of a stream: 12 hours at a hop of 5 s."""

MAX_MARKS = 500
"""Changes that are kept of a stream."""

WEIGHTS = side_weights(HALF)
"""Weights of the windows on both sides of a border."""


class LiveNovelty:
    """The streams that were heard since this began, by the names that they have in addresses."""

    def __init__(self) -> None:
        self._streams: dict[str, _StreamNovelty] = {}

    def take(self, message: Embedding) -> dict[str, Any]:
        """Look at an embedding. Return the name of its stream, and what has become known: a value, changes.

        The value is not divided by a variance: the page knows that of the span that it shows.
        """
        length = message.window.end - message.window.start
        name = name_of(StreamKey(message.daemon, message.stream, message.model.space, message.vector.size, length))
        told = {"key": name, "trained": message.model.trained}
        if name not in self._streams:
            if len(self._streams) >= MAX_STREAMS:
                return told
            self._streams[name] = _StreamNovelty(told | {"daemon": short(message.daemon), "stream": short(message.stream)})
        return told | self._streams[name].take(message)

    def heard(self) -> list[dict[str, Any]]:
        """Return which streams were heard, the first one first: a page that opens now has missed their windows."""
        return [stream.facts for stream in self._streams.values()]

    def lately(self, name: str) -> dict[str, Any]:
        """Return all values and changes of a stream."""
        stream = self._streams.get(name) or _StreamNovelty({})
        variance = stream.variance
        return {
            "line": {
                "ms": [at for at, _ in stream.points],
                "novelty": [finite(value / variance) for _, value in stream.points],
            },
            "variance": variance,
            "marks": list(stream.marks),
        }


class _StreamNovelty:
    """One stream. Attributes: facts that a page needs of it; points (time, value), and marks, oldest first."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.points: deque[tuple[int, float]] = deque(maxlen=MAX_POINTS)
        self.marks: deque[dict[str, Any]] = deque(maxlen=MAX_MARKS)
        self._detector = ChangeDetector(cut_off=False)
        self._windows: deque[tuple[Embedding, Direction]] = deque(maxlen=2 * HALF)
        self._mean: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._count = 0

    def take(self, message: Embedding) -> dict[str, Any]:
        """Look at the next window."""
        if not np.isfinite(message.vector).all():
            return {}
        found: dict[str, Any] = {}
        if self._is_used(message):
            self._add(message)
            if len(self._windows) == 2 * HALF:
                before, after = self._windows[HALF - 1][0], self._windows[HALF][0]
                middle_ns = (_middle_ns(before) + _middle_ns(after)) // 2
                value = novelty([one for _, one in self._windows], WEIGHTS)
                self.points.append((ms(middle_ns), value))
                found = {"ms": ms(middle_ns), "novelty": value}
        marks = [_mark(one) for one in self._detector.feed(window_of(message)) if isinstance(one, Change)]
        self.marks.extend(marks)
        return {**found, "marks": marks} if marks else found

    def _is_used(self, message: Embedding) -> bool:
        """Return whether a window begins a step. After a gap, nothing is known of what came before."""
        if not self._windows:
            return True
        last = self._windows[-1][0]
        if (message.boot, message.epoch) != (last.boot, last.epoch):
            self._windows.clear()
            return True
        first, length = message.window.start, message.window.end - message.window.start
        if message.seq <= last.seq or not begins_a_step(last.window.start, first, length):
            return False
        usual = last.window.start - self._windows[-2][0].window.start if len(self._windows) > 1 else 0
        if first - last.window.start > max(length, GAP_STEPS * usual):
            self._windows.clear()
        return True

    def _add(self, message: Embedding) -> None:
        heard = direction(message.vector)
        self._windows.append((message, heard))
        if self._mean is None:
            self._mean = np.zeros(len(heard))
        self._count = min(self._count + 1, MAX_POINTS)
        self._mean += (heard - self._mean) / self._count

    @property
    def variance(self) -> float:
        """The variance of the directions that were heard; about that of the last ones, if there were many."""
        return max(1.0 - float(np.square(self._mean).sum()), MIN_VARIANCE) if self._mean is not None else 1.0


def _middle_ns(message: Embedding) -> int:
    return (message.time.start_ns + message.time.end_ns) // 2


def _mark(change: Change) -> dict[str, Any]:
    like = change.like
    return {
        "event": change.kind.value,
        "ms": ms(change.time_ns),
        "number": finite(change.strength),
        "bound_ms": ms(change.bound_ns),
        "like_ms": [ms(like.start_ns), ms(like.end_ns)] if like is not None else None,
    }
