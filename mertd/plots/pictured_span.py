"""What a picture shows of one stream or recording, gathered from the memory or from windows as they are embedded.

Rules of this file: it draws nothing, and needs no matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mertd.defaults import SAMPLE_RATE
from mertd.memory.changes.detector import ChangeDetector
from mertd.memory.changes.direction_spread import direction
from mertd.memory.changes.programme import ProgrammeSection
from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.changes.stream_window import Change, ChangeKind, StreamWindow
from mertd.memory.rows import nominal_ns
from mertd.view.span_reading import MemoryFiles, bounds_ns, is_trained, read_windows
from mertd.view.span_sketch import SpanSketch, Windows
from mertd.wire import Embedding

PIXELS = 480
"""Moments that the square and the path have at most: as many as can be told apart on paper."""


@dataclass(frozen=True)
class PicturedSpan:
    """A stream or a recording.

    Attributes:
        changes: times at which the sound changed, and whether it came back with that.
        by_clock: times are Unix nanoseconds; else nanoseconds since the beginning of the recording.
    """

    title: str
    sketch: SpanSketch
    changes: list[tuple[int, bool]]
    trained: bool
    by_clock: bool


def remembered_span(
    folder: Path, key: StreamKey, since_ns: int, until_ns: int, sections: Sequence[ProgrammeSection]
) -> PicturedSpan | None:
    """Return what is remembered of a stream; None if there is nothing. Raises `StoreError`."""
    bounds = bounds_ns(folder, key, since_ns, until_ns)
    if bounds is None:
        return None
    first_ns, last_ns, distance_ns = bounds
    end_ns = last_ns + nominal_ns(key.length, SAMPLE_RATE)
    sketch = _sketch(first_ns, end_ns, (last_ns - first_ns) // max(1, distance_ns) + 1)
    for block in read_windows(MemoryFiles(folder), key, first_ns, last_ns + 1):
        sketch.add(block)
    changes = [(section.start_ns, section.returned is not None) for section in sections if section.change is not None]
    return PicturedSpan(key.stream, sketch, changes, is_trained(folder, key), by_clock=True)


@dataclass
class RecordedSpan:
    """The windows of one recording, as they come. `title`: what it is called."""

    title: str
    _detector: ChangeDetector = field(default_factory=ChangeDetector)
    _changes: dict[int, bool] = field(default_factory=dict)
    _windows: list[StreamWindow] = field(default_factory=list)
    _levels: list[float] = field(default_factory=list)
    _trained: bool = True

    def add(self, message: Embedding) -> None:
        """Take the next window."""
        window = message.window
        start_ns, end_ns = (sample * 1_000_000_000 // window.rate for sample in (window.start, window.end))
        length = window.end - window.start
        heard = direction(message.vector) if np.isfinite(message.vector).all() else None
        if heard is None:
            return
        one = StreamWindow(message.boot, message.epoch, message.seq, window.start, length, start_ns, end_ns, heard)
        self._windows.append(one)
        self._levels.append(message.audio.rms_dbfs)
        self._trained = self._trained and message.model.trained
        for found in self._detector.feed(one):
            if isinstance(found, Change):
                self._changes[found.time_ns] = found.kind is ChangeKind.RETURN

    def picture(self) -> PicturedSpan | None:
        """Return what is to be drawn; None if there was no window."""
        if not self._windows:
            return None
        sketch = _sketch(self._windows[0].start_ns, self._windows[-1].end_ns, len(self._windows))
        sketch.add(
            Windows(
                run=np.array([one.epoch for one in self._windows], np.int64),
                first=np.array([one.first for one in self._windows], np.int64),
                length=np.array([one.length for one in self._windows], np.int64),
                start_ns=np.array([one.start_ns for one in self._windows], np.int64),
                end_ns=np.array([one.end_ns for one in self._windows], np.int64),
                rms_dbfs=np.array(self._levels, np.float32),
                directions=np.array([one.vector for one in self._windows], np.float32),
            )
        )
        return PicturedSpan(self.title, sketch, sorted(self._changes.items()), self._trained, by_clock=False)


def _sketch(since_ns: int, until_ns: int, windows: int) -> SpanSketch:
    return SpanSketch(since_ns, until_ns, max(1, min(PIXELS, windows)))
