"""The sections of a stream, between its boundaries, and which of them a sound comes back to.

A long section is kept in parts, each with a mean direction of its own, so that what is found depends on a limited past.

Rules of this file: no I/O. Windows are numbered as they come; what began before a number can be forgotten.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mertd.memory.changes.direction_spread import Direction, DirectionSum
from mertd.memory.changes.stream_window import SectionSpan, StreamWindow

PART_SEQS = 512
"""Embeddings after which another part of a section begins: 43 minutes at a hop of 5 s."""

MIN_RETURN = 0.5
"""Least similarity of a sound with an earlier section to count as a return to it."""

RETURN_SHARE = 0.95
"""Share of the similarity that windows of one section have with its mean, and that a return must reach."""


class SectionPart(DirectionSum):
    """Windows that follow on each other, without a boundary between them."""

    def __init__(self, window: StreamWindow, direction: Direction, number: int, continues: bool, start_ns: int) -> None:
        """`number`: windows of the stream before it. `continues`: there is no boundary before it."""
        super().__init__(len(direction))
        self.number, self.continues = number, continues
        self._boot = window.boot
        self._first_seq = window.seq
        self._start_ns = start_ns
        self.extend(window, direction)

    def extend(self, window: StreamWindow, direction: Direction) -> None:
        """Add the next window."""
        self.add(direction)
        self._last_seq, self._end_ns = window.seq, window.end_ns

    def end(self, boundary_ns: int) -> None:
        """Note where it ends: its last windows hear what is behind it, too."""
        self._end_ns = boundary_ns

    def takes(self, window: StreamWindow) -> bool:
        """Return whether a window may be part of it."""
        return window.seq // PART_SEQS == self._first_seq // PART_SEQS

    @property
    def span(self) -> SectionSpan:
        return SectionSpan(self._boot, self._first_seq, self._last_seq, self._start_ns, self._end_ns)

    def coherence(self, centre: NDArray[np.float64]) -> float:
        """Return the similarity of its windows with its mean, as seen from a centre: 0 to 1."""
        off_centre = float(np.square(self.mean - centre).sum())
        return math.sqrt(off_centre / (off_centre + self.variance)) if off_centre else 0.0


class Sections:
    """The parts of earlier sections, and the present one."""

    def __init__(self, minimum: int) -> None:
        """`minimum`: windows of a part that a sound can come back to, at least."""
        self._minimum = minimum
        self._present: SectionPart | None = None
        self._boundary_ns: int | None = None  # where the next part begins; None: with its first window
        self._earlier: deque[SectionPart] = deque()

    def __len__(self) -> int:
        return len(self._earlier)

    def add(self, window: StreamWindow, direction: Direction, number: int) -> None:
        """Add a window to the present section. `number`: windows of the stream before it."""
        if self._present is not None and self._present.takes(window):
            self._present.extend(window, direction)
            return
        continues = self._present is not None
        if continues:
            self.end(window.middle_ns)
        start_ns = window.start_ns if self._boundary_ns is None else self._boundary_ns
        self._present = SectionPart(window, direction, number, continues, start_ns)

    def end(self, boundary_ns: int | None) -> None:
        """Note that there is a boundary behind the windows that were added; None: a gap."""
        self._boundary_ns = boundary_ns
        if self._present is not None:
            if boundary_ns is not None:
                self._present.end(boundary_ns)
            self._earlier.append(self._present)
            self._present = None

    def forget_before(self, number: int) -> None:
        """Forget what began before a window."""
        while self._earlier and self._earlier[0].number < number:
            self._earlier.popleft()

    def like(self, sound: Sequence[Direction], centre: NDArray[np.float64]) -> tuple[SectionSpan, float] | None:
        """Return the earlier section that is most like the sound behind a boundary, and how much; None if none is enough.

        The section that has just ended does not count.
        """
        earlier = [part for part in self._without_last() if part.count >= self._minimum]
        if not sound or not earlier:
            return None
        here = np.sum(sound, axis=0, dtype=np.float64) / len(sound) - centre
        there = np.stack([part.mean for part in earlier]) - centre
        lengths = np.linalg.norm(there, axis=1) * np.linalg.norm(here)
        similarities = (there @ here) / np.where(lengths > 0, lengths, 1)
        best = int(np.argmax(similarities))
        usual = float(np.median([part.coherence(centre) for part in earlier]))
        if similarities[best] < max(MIN_RETURN, RETURN_SHARE * usual):
            return None
        return earlier[best].span, float(similarities[best])

    def _without_last(self) -> list[SectionPart]:
        found = list(self._earlier)
        while found and found.pop().continues:
            pass
        return found
