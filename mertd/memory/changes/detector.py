"""Changes of one stream, live: boundaries where novelty peaks, and returns to a sound that was there before.

The threshold comes from the stream itself: novelty in the recent past, its median and its spread. A change is reported
`delay_ns` after its middle, because the sound after it must be heard first.

Rules of this file: no I/O, no clock, no random numbers; what is reported depends on the windows alone, not on when they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mertd.memory.changes.novelty import NoveltyCurve
from mertd.memory.similarity.centre import centred_units
from mertd.memory.similarity.vector_segment import Floats

HALF = 4
"""Windows on each side of a boundary that are compared: 20 s at a hop of 5 s, beside the 30 s that each of them hears."""

HISTORY = 720
"""Values of novelty that the threshold is made from: an hour at a hop of 5 s."""

MIN_HISTORY = 24
"""Fewest of them before a change is reported."""

DEVIATIONS = 3.0
"""How far above the median a peak must reach, in standard deviations of what lies below the median."""

MIN_NOVELTY = 0.05
"""Least novelty of a change: below it, both sides sound alike, however quiet the past was."""

MIN_RETURN = 0.5
"""Least centred similarity of a section with an earlier one to count as a return to it."""

RETURN_SHARE = 0.8
"""Share of the similarity that windows of one section have with its mean, and that a return must reach."""

MAX_SECTIONS = 2_048
"""Sections that are remembered for returns; the oldest is forgotten."""


def usual_limit(past: NDArray[np.float64]) -> float:
    """Return the novelty that a stream seldom reaches without a change.

    Changes raise what lies above the median, so the spread is that of the values below it: 1.4826 times their median deviation,
    which for a normal distribution is the standard deviation.
    """
    median = float(np.median(past))
    below = median - past[past <= median]
    return median + DEVIATIONS * 1.4826 * float(np.median(below))


class ChangeKind(StrEnum):
    """What happened."""

    CHANGE = "change"
    RETURN = "return"


@dataclass(frozen=True)
class Change:
    """One boundary. Times are Unix nanoseconds."""

    kind: ChangeKind
    time_ns: int  # best estimate of the boundary
    bound_ns: int  # the boundary lies within this of `time_ns`
    strength: float  # novelty, or for a return its similarity with the earlier section
    detected_ns: int  # end of the newest window that was needed
    back_to_ns: tuple[int, int] | None = None  # for a return: start and end of the earlier section


@dataclass(frozen=True)
class StreamWindow:
    """What the detector needs of one window."""

    start_ns: int
    end_ns: int
    vector: NDArray[np.floating]  # (size,), as it was published


@dataclass
class _Section:
    """The sound between two boundaries: its mean direction."""

    start_ns: int
    end_ns: int
    total: NDArray[np.float64]
    count: int = 1

    @property
    def unit(self) -> NDArray[np.float64]:
        length = float(np.linalg.norm(self.total))
        return self.total / length if length else self.total

    @property
    def coherence(self) -> float:
        """Mean similarity of its windows with its mean direction, 0 to 1."""
        return float(np.linalg.norm(self.total)) / self.count


@dataclass(frozen=True)
class _Border:
    """The place between two windows, once its novelty is known."""

    novelty: float
    threshold: float | None  # None: too little history
    middle_ns: int
    span_ns: int  # of a window
    hop_ns: int
    detected_ns: int


class ChangeDetector:
    """Finds the changes of one stream. Feed it every window, in order; it answers with what has become certain."""

    def __init__(self, mean: Floats, half: int = HALF) -> None:
        """`mean`: the centre of the space. `half`: windows on each side of a boundary that are compared."""
        self.half = half
        self._mean = mean
        self._curve = NoveltyCurve(half)
        self._past: deque[float] = deque(maxlen=HISTORY)
        self._windows: deque[StreamWindow] = deque(maxlen=2 * half)
        self._borders: deque[_Border] = deque(maxlen=2 * half + 1)
        self._section: _Section | None = None
        self._waiting: deque[tuple[StreamWindow, Floats]] = deque()  # windows not yet assigned to a section
        self._sections: deque[_Section] = deque(maxlen=MAX_SECTIONS)

    @staticmethod
    def delay_ns(half: int, hop_ns: int, window_ns: int) -> int:
        """Return how long after a boundary its change is reported, in stream time: the windows behind it must have ended."""
        return 2 * half * hop_ns + window_ns // 2

    def feed(self, window: StreamWindow) -> list[Change]:
        """Add the next window and return the changes that it makes certain, in order of time."""
        if not np.isfinite(window.vector).all():
            return []
        if self._windows and window.start_ns >= self._windows[-1].end_ns:
            self._begin_anew()
        unit = centred_units(window.vector[None], self._mean)[0]
        self._windows.append(window)
        self._waiting.append((window, unit))
        value = self._curve.feed(unit)
        if value is None:
            return []
        self._borders.append(self._border(value))
        self._past.append(value)
        return self._peak()

    def _border(self, value: float) -> _Border:
        before, after = self._windows[self.half - 1], self._windows[self.half]
        middle = ((before.start_ns + before.end_ns) // 2 + (after.start_ns + after.end_ns) // 2) // 2
        threshold = None
        if len(self._past) >= MIN_HISTORY:
            past = np.fromiter(self._past, np.float64, len(self._past))
            threshold = max(usual_limit(past), MIN_NOVELTY)
        hop = after.start_ns - before.start_ns
        return _Border(value, threshold, middle, after.end_ns - after.start_ns, hop, self._windows[-1].end_ns)

    def _peak(self) -> list[Change]:
        """Look at the border in the middle of those that are known: is it the highest of them, and above its threshold?"""
        if len(self._borders) < 2 * self.half + 1:
            return []
        middle = self._borders[self.half]
        values = [border.novelty for border in self._borders]
        highest = max(values)
        is_peak = values.index(highest) == self.half
        if not is_peak or middle.threshold is None or middle.novelty < middle.threshold:
            self._assign(middle.middle_ns)
            return []
        change = Change(
            ChangeKind.CHANGE,
            middle.middle_ns,
            middle.span_ns // 2,
            round(middle.novelty, 6),
            self._windows[-1].end_ns,
        )
        self._assign(middle.middle_ns)
        self._end_section()
        return [change, *self._find_return(change)]

    def _begin_anew(self) -> None:
        """Forget what came before a hole, except for its sections: nothing is known of the sound in the hole."""
        self._assign(None)
        self._end_section()
        self._curve.clear()
        self._windows.clear()
        self._borders.clear()

    def _assign(self, until_ns: int | None) -> None:
        """Add the windows whose middle lies before `until_ns` to the present section; None: all."""
        while self._waiting:
            window, unit = self._waiting[0]
            if until_ns is not None and (window.start_ns + window.end_ns) // 2 >= until_ns:
                return
            self._waiting.popleft()
            if self._section is None:
                self._section = _Section(window.start_ns, window.end_ns, unit.astype(np.float64))
            else:
                self._section.total += unit
                self._section.end_ns = window.end_ns
                self._section.count += 1

    def _end_section(self) -> None:
        if self._section is not None and self._section.count >= self.half:
            self._sections.append(self._section)
        self._section = None

    def _find_return(self, change: Change) -> Iterator[Change]:
        """Compare the sound behind a boundary with the sections before it, but for the one that has just ended."""
        behind = [unit for _, unit in self._waiting][self.half // 2 :][: self.half]  # the first windows hear both sides
        earlier = list(self._sections)[:-1]
        if not behind or not earlier:
            return
        mean = np.sum(behind, axis=0, dtype=np.float64)
        length = float(np.linalg.norm(mean))
        if not length:
            return
        similarities = np.stack([section.unit for section in earlier]) @ (mean / length)
        best = int(np.argmax(similarities))
        if similarities[best] >= max(MIN_RETURN, RETURN_SHARE * float(np.median([section.coherence for section in earlier]))):
            section = earlier[best]
            yield Change(
                ChangeKind.RETURN,
                change.time_ns,
                change.bound_ns,
                round(float(similarities[best]), 6),
                change.detected_ns,
                (section.start_ns, section.end_ns),
            )


def find_changes(windows: Iterable[StreamWindow], mean: Floats, half: int = HALF) -> list[Change]:
    """Return the changes of a whole recording: what the detector reports live."""
    detector = ChangeDetector(mean, half)
    return [change for window in windows for change in detector.feed(window)]
