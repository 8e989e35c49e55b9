"""When the next message of a replay is due.

Rules of this file: no clock. Times are monotonic seconds from the caller, and nanoseconds of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

LATE_S = 1.0
"""Seconds of lateness that are made up for, so that the whole lasts as long as it should."""


@dataclass(frozen=True)
class Pace:
    """`speed`: how much faster than the original; infinite for as fast as subscribers read. `longest_pause_s`: seconds of the
    replay, not of the original, that pass at most between two messages.
    """

    speed: float = 1.0
    longest_pause_s: float = float("inf")


class Timetable:
    """Turns times of the memory into times of the replay."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._last_ns: int | None = None
        self._due_s = 0.0

    def due(self, when_ns: int, now_s: float) -> float:
        """Return when the message is due that was published at `when_ns`; the first one is due now.

        If the replay is later than `LATE_S`, as after a subscriber did not read, what follows is as late: it would otherwise
        come in a burst.
        """
        if self._last_ns is None:
            self._due_s = now_s
        else:
            pause_s = (when_ns - self._last_ns) / 1e9 / self._pace.speed
            self._due_s += min(pause_s, self._pace.longest_pause_s)
        if self._due_s < now_s - LATE_S:
            self._due_s = now_s
        self._last_ns = when_ns
        return self._due_s
