"""The gaps of one stream: which samples are zeros because the audio was lost on the way in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from mertd.capture.reports import FilledGap
from mertd.windows import Window

REPORT_NS = 1_000_000_000
"""Nanoseconds between two reports: a source that loses audio all the time must not flood the subscribers."""


class GapLog:
    """Remembers gaps for as long as a window may contain them, and reports them together.

    Attributes:
        missing: samples in all gaps so far.
    """

    def __init__(self) -> None:
        self.missing = 0
        self._gaps: deque[FilledGap] = deque()
        self._unreported: list[FilledGap] = []
        self._reported_ns = -REPORT_NS

    def add(self, gaps: Iterable[FilledGap]) -> None:
        """Remember gaps, in the order of the samples."""
        for gap in gaps:
            self.missing += gap.end - gap.start
            self._unreported.append(gap)
            if self._gaps and self._gaps[-1].end == gap.start:  # neighbours take the room of one
                self._gaps[-1] = FilledGap(self._gaps[-1].start, gap.end, gap.reason)
            else:
                self._gaps.append(gap)

    def report(self, now_ns: int | None = None) -> tuple[int, dict[str, Any]] | None:
        """Return the first sample and the detail of an event about all gaps since the last report; None if there are none.

        `now_ns`: monotonic time, if a report so soon after the last one is to be put off.
        """
        if not self._unreported or (now_ns is not None and now_ns - self._reported_ns < REPORT_NS):
            return None
        if now_ns is not None:
            self._reported_ns = now_ns
        gaps = self._unreported
        self._unreported = []
        return gaps[0].start, {
            "missing": sum(gap.end - gap.start for gap in gaps),
            "end": gaps[-1].end,
            "gaps": len(gaps),
            "reason": ", ".join(sorted({gap.reason.value for gap in gaps})),
        }

    def missing_in(self, window: Window) -> int:
        """Return how many samples of a window are missing."""
        return sum(max(0, min(gap.end, window.end) - max(gap.start, window.start)) for gap in self._gaps)

    def forget(self, before: int) -> None:
        """Drop the gaps that end at sample `before` or earlier."""
        while self._gaps and self._gaps[0].end <= before:
            self._gaps.popleft()
