"""Detection of a device that delivers only zeros.

Real converters are noisy: exact zeros for long mean that the device is muted, that consent is missing, or that nothing plays.
"""

from __future__ import annotations

from collections.abc import Callable

from mertd.capture.reports import Notice
from mertd.capture.source import Frames, ZerosExplanation
from mertd.vocabulary import EventName

MIN_ZEROS_S = 10.0
"""Seconds of exact zeros on every channel after which they are reported."""


class ZerosDetector:
    """Examines every block of a device and reports a long run of zeros once, and its end."""

    def __init__(self, rate: int, explain: Callable[[], ZerosExplanation]) -> None:
        """`rate`: Hz. `explain`: called when there is something to report."""
        self._rate = rate
        self._explain = explain
        self._frames = 0  # length of the current run of zeros
        self._start = 0  # index of its first sample
        self._reported = False

    def check(self, frames: Frames, index: int) -> Notice | None:
        """Return what to report after `frames`, (n, channels), of which the first becomes sample `index`."""
        if frames.any():
            return self._end_run(index)
        if not self._frames:
            self._start = index
        self._frames += len(frames)
        if self._reported or self._frames < MIN_ZEROS_S * self._rate:
            return None
        self._reported = True
        found = self._explain()
        detail = {"seconds": self._frames / self._rate, "cause": found.cause, "hint": found.hint}
        return Notice(EventName.ZEROS, self._start, detail)

    def _end_run(self, index: int) -> Notice | None:
        reported, seconds = self._reported, self._frames / self._rate
        self._frames = 0
        self._reported = False
        return Notice(EventName.ZEROS_OVER, index, {"seconds": seconds}) if reported else None
