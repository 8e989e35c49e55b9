"""A device that gives nothing but zeros: real ones hiss, so for long that is a mute, a missing consent, or nothing playing."""

from __future__ import annotations

from collections.abc import Callable

from mertd.capture.messages import Notice
from mertd.capture.source import Cause, Frames

ZEROS_S = 10.0
"""Exact zeros on every channel for so long are reported, once; and then that they are over."""


class ZeroWatch:
    """Looks at every block of a device at `rate` Hz. `why`: asked when there is something to report."""

    def __init__(self, rate: int, why: Callable[[], Cause]) -> None:
        self._rate, self._why = rate, why
        self._frames, self._since, self._reported = 0, 0, False

    def look(self, frames: Frames, index: int) -> Notice | None:
        """What is to be said now that these frames (n, channels) have come, of which the first becomes sample `index`."""
        if frames.any():
            reported, seconds = self._reported, self._frames / self._rate
            self._frames, self._reported = 0, False
            return Notice("zeros_over", index, {"seconds": seconds}) if reported else None
        if not self._frames:
            self._since = index
        self._frames += len(frames)
        if self._reported or self._frames < ZEROS_S * self._rate:
            return None
        self._reported, why = True, self._why()
        return Notice("zeros", self._since, {"seconds": self._frames / self._rate, "cause": why.cause, "hint": why.hint})
