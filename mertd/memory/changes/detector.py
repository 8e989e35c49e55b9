"""Changes of one stream, live: boundaries where novelty peaks, and returns to a sound that was there before.

The threshold comes from the stream itself: the novelty of the quietest part of its last hour, and of its last minute. A change
is reported `delay_ns` after its middle, because the sound after it must be heard first.

Rules of this file: no I/O, no clock, no random numbers. What is reported depends on the windows alone, not on when they come,
and only on the last `Reach.past` of them: so a detector that begins there finds what one finds that has run for years.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mertd.memory.changes.direction_spread import Direction, LatestDirections, direction
from mertd.memory.changes.novelty import novelty, side_weights
from mertd.memory.changes.sound_sections import Sections
from mertd.memory.changes.stream_window import Change, ChangeKind, Found, Gap, StreamWindow

HALF = 4
"""Windows on each side of a boundary that are compared: 20 s at a hop of 5 s, beside the 30 s that each of them hears."""

HISTORY = 720
"""Windows whose novelty makes the threshold, and whose mean is the centre: an hour at a hop of 5 s."""

HORIZON = 8_640
"""Windows in which a section must have begun for a return to it: 12 hours at a hop of 5 s."""

MIN_HISTORY = 24
"""Values of novelty before a change is reported, at least."""

QUIET_SHARE = 0.25
"""Share of the recent windows that counts as undisturbed: also where a change every minute disturbs most of the others."""

TIMES_QUIET = 4.0
"""How many times the largest novelty of the undisturbed windows a peak must reach. Noise and drift reach 2.5 times at most."""

MIN_NOVELTY = 0.05
"""Least novelty of a change, as a share of the stream's variance: below it, both sides sound alike, whatever the past was."""

ROUNDING = 1e-7
"""Novelty that the rounding of vectors to float16 can cause; a change is above it."""

STEPS_A_WINDOW = 8
"""Steps into which a window is divided: of those that begin within one step, only the first is used. A hop of 0.25 s, or a
client that asks for many windows, would otherwise leave nothing on both sides of a boundary but the same sound.
"""


@dataclass(frozen=True)
class Reach:
    """How far a detector looks, in windows."""

    half: int = HALF
    history: int = HISTORY
    horizon: int = HORIZON

    @property
    def near(self) -> int:
        """Windows before a boundary that must be quiet, too: a lively sound after a steady one is not full of changes."""
        return 3 * self.half

    @property
    def warm_up(self) -> int:
        """Windows after which a detector that began in the middle of a stream finds the same boundaries as any other."""
        return self.history + 8 * self.half

    @property
    def past(self) -> int:
        """Windows after which it finds the same returns too."""
        return self.warm_up + self.horizon


DEFAULT_REACH = Reach()
"""What the daemon and `mertd changes` use."""


@dataclass(frozen=True)
class _Border:
    """The place between two windows, once its novelty is known."""

    novelty: float
    before: StreamWindow
    after: StreamWindow

    @property
    def middle_ns(self) -> int:
        return (self.before.middle_ns + self.after.middle_ns) // 2


@dataclass(frozen=True)
class NoveltyPoint:
    """How new the sound was at one moment. `variance`: of the stream, as far as it was known then."""

    time_ns: int
    novelty: float
    variance: float


class ChangeDetector:
    """Finds the changes of one stream. Feed it every window, in order; it answers with what has become certain.

    Attributes:
        used: windows so far that were not passed over.
    """

    def __init__(self, reach: Reach = DEFAULT_REACH, cut_off: bool = False) -> None:
        """`cut_off`: there were windows before the first one that it is given, so it is silent until it knows enough."""
        self.used = 0
        self.reach = reach
        self._quiet = reach.warm_up if cut_off else 0  # windows of which sections and changes are not told
        self._weights = side_weights(reach.half)
        self._latest: LatestDirections | None = None
        self._values: deque[float] = deque(maxlen=reach.history + reach.half + 1)  # NaN: no novelty at this window
        self._block: deque[tuple[StreamWindow, Direction]] = deque(maxlen=2 * reach.half)
        self._borders: deque[_Border] = deque(maxlen=2 * reach.half + 1)
        self._step = math.inf  # samples between the starts of the last two windows
        self._waiting: deque[tuple[int, StreamWindow, Direction]] = deque()  # windows not yet assigned to a section
        self._sections = Sections(reach.half)

    @property
    def newest(self) -> NoveltyPoint | None:
        """The newest moment of which the sound on both sides is known; None if there is none since the last gap."""
        if not self._borders or self._latest is None:
            return None
        border = self._borders[-1]
        return NoveltyPoint(border.middle_ns, border.novelty, self._latest.variance)

    @staticmethod
    def delay_ns(half: int, hop_ns: int, window_ns: int) -> int:
        """Return how long after a boundary its change is reported, in stream time: the windows behind it must have ended."""
        return 2 * half * hop_ns + window_ns // 2

    def feed(self, window: StreamWindow) -> list[Found]:
        """Add the next window and return what it makes certain, in order of time."""
        if not np.isfinite(window.vector).all():
            return []
        found: list[Found] = []
        if self._block:
            last = self._block[-1][0]
            if (window.boot, window.epoch) == (last.boot, last.epoch):
                if window.seq <= last.seq or not begins_a_step(last.first, window.first, window.length):
                    return []
                distance = window.first - last.first
                gap = distance > max(window.length, 2 * self._step)
                self._step = math.inf if gap else distance
            else:
                if window.boot == last.boot and window.seq <= last.seq:
                    return []
                gap = True
                self._step = math.inf
            if gap:
                self._begin_anew()
                found.append(Gap(last.end_ns, window.start_ns))
        return [*found, *self._take(window)]

    def _take(self, window: StreamWindow) -> list[Found]:
        """Add a window that follows on the last one, or on nothing."""
        heard = direction(window.vector)
        if self._latest is None:
            self._latest = LatestDirections(len(heard), self.reach.history)
        self._latest.push(heard)
        self._block.append((window, heard))
        self._waiting.append((self.used, window, heard))
        self.used += 1
        if len(self._block) < 2 * self.reach.half:
            self._values.append(math.nan)
            return []
        value = novelty([one for _, one in self._block], self._weights)
        self._values.append(value)
        half = self.reach.half
        self._borders.append(_Border(value, self._block[half - 1][0], self._block[half][0]))
        return self._peak()

    def _peak(self) -> list[Found]:
        """Look at the border in the middle of those that are known: is it the highest of them, and above the threshold?"""
        half = self.reach.half
        if len(self._borders) < 2 * half + 1:
            return []
        middle = self._borders[half]
        values = [border.novelty for border in self._borders]
        self._assign(middle)
        if values.index(max(values)) != half or middle.novelty < self._threshold():
            return []
        self._sections.end(middle.middle_ns)
        change = self._change(middle)
        returned = self._returned(change)
        if self.used <= self._quiet:
            return []
        return [change, returned] if returned is not None else [change]

    def _threshold(self) -> float:
        """Return the novelty that the border in the middle must reach."""
        assert self._latest is not None
        past = np.array(list(self._values)[: -self.reach.half - 1], np.float64)
        near = past[-self.reach.near :]
        past, near = past[np.isfinite(past)], near[np.isfinite(near)]
        if len(past) < MIN_HISTORY:
            return math.inf
        return max(usual_limit(past), usual_limit(near), MIN_NOVELTY * self._latest.variance, ROUNDING)

    def _change(self, border: _Border) -> Change:
        assert self._latest is not None
        before, after = border.before, border.after
        newest = self._block[-1][0]
        variance = self._latest.variance
        return Change(
            kind=ChangeKind.CHANGE,
            boot=after.boot,
            epoch=after.epoch,
            index=(before.middle + after.middle) // 2,
            time_ns=border.middle_ns,
            bound_ns=(max(after.end_ns - after.start_ns, after.middle_ns - before.middle_ns) + 1) // 2,
            strength=round(border.novelty / variance, 4) if variance else 0.0,
            seq=newest.seq,
            detected_ns=newest.end_ns,
        )

    def _returned(self, change: Change) -> Change | None:
        """Compare the sound behind a boundary with the sections before it."""
        assert self._latest is not None
        half = self.reach.half
        behind = [heard for _, _, heard in self._waiting][half // 2 :][:half]  # the first windows hear both sides
        self._sections.forget_before(max(self._quiet, self.used - self.reach.horizon))
        found = self._sections.like(behind, self._latest.mean)
        if found is None:
            return None
        span, similarity = found
        return replace(change, kind=ChangeKind.RETURN, strength=round(similarity, 4), like=span)

    def _begin_anew(self) -> None:
        """Forget what came before a gap, except for its sections: nothing is known of the sound in it."""
        self._assign(None)
        self._sections.end(None)
        self._block.clear()
        self._borders.clear()

    def _assign(self, border: _Border | None) -> None:
        """Add the windows before a border to the present section; None: all."""
        while self._waiting:
            number, window, heard = self._waiting[0]
            if border is not None and window.seq >= border.after.seq:
                break
            self._waiting.popleft()
            self._sections.add(window, heard, number)
        self._sections.forget_before(max(self._quiet, self.used - self.reach.horizon))


def usual_limit(past: NDArray[np.float64]) -> float:
    """Return the novelty that a stream does not reach without a change.

    Changes raise most values around them, so the limit comes from the lowest ones. It is a ratio, as their size depends on what
    the stream sounds like and on the model.
    """
    return TIMES_QUIET * float(np.quantile(past, QUIET_SHARE))


def find_changes(windows: Iterable[StreamWindow], reach: Reach = DEFAULT_REACH) -> list[Found]:
    """Return the changes and gaps of a whole recording: what the detector reports live."""
    detector = ChangeDetector(reach)
    return [found for window in windows for found in detector.feed(window)]


def begins_a_step(last: int, first: int, length: int) -> bool:
    """Return whether a window of so many samples that begins at sample `first` is used, after one that began at `last`."""
    return first * STEPS_A_WINDOW // length > last * STEPS_A_WINDOW // length if length > 0 else first > last
