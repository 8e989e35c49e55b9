"""Wall time less steady time, as it was recorded: which values it can have had at a moment between two recordings.

Rules of this file: it reads no clock. Every recording counts: one that is dropped to save memory leaves its value in the span
that covers it.

Between two recordings wall time is assumed to have been set at most once, or several times in the same direction, and to have
been slewed by at most MAX_SLEW. A step that is taken back before the next recording leaves no trace.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import islice

from mertd.capture.clock_pair import ClockPair

MAX_SLEW = 500e-6
"""Rate at which NTP slews the wall clock at most, in seconds a second."""

SPAN_NS = 1_000_000_000
"""Nanoseconds that a span may last if it covers several recordings."""

UNCHANGED_NS = 1_000_000
"""Nanoseconds by which the recorded offsets of one span may differ if it covers several recordings."""


@dataclass
class _Span:
    """The time between two recordings, and the offsets recorded from the first to the second. Nanoseconds."""

    begin: int  # steady time of the first recording
    end: int  # steady time of the second one
    offset: int  # which the second one showed
    low: int  # lowest offset recorded, those at both ends included
    high: int  # highest one


class WallOffsets:
    """The recorded offsets of one epoch, of which the oldest may be dropped."""

    def __init__(self, memory_ns: int) -> None:
        """`memory_ns`: age of the oldest moment that will be asked for."""
        self._memory_ns = memory_ns
        self._spans: deque[_Span] = deque()

    def record(self, clocks: ClockPair) -> None:
        """Take a reading of both clocks into account. One that is not later than the latest is ignored."""
        spans = self._spans
        now = clocks.steady_ns
        offset = clocks.offset_ns
        if not spans:
            spans.append(_Span(now, now, offset, offset, offset))
            return
        last = spans[-1]
        if now <= last.end:
            return
        low, high = min(last.low, offset), max(last.high, offset)
        if last.begin < last.end and high - low < UNCHANGED_NS and now - last.begin < SPAN_NS:
            spans[-1] = _Span(last.begin, now, offset, low, high)
        else:
            spans.append(_Span(last.end, now, offset, min(last.offset, offset), max(last.offset, offset)))
        while len(spans) > 2 and now - spans[1].end > self._memory_ns:
            spans.popleft()

    def at(self, steady_ns: int) -> int:
        """Return the likely offset at `steady_ns`: on the line between the recordings around it, or the nearest one."""
        spans = self._spans
        at = bisect_left(spans, steady_ns, key=lambda span: span.end)
        if not 0 < at < len(spans):
            return spans[0 if at == 0 else -1].offset
        before, after = spans[at - 1], spans[at]
        share = (steady_ns - before.end) / (after.end - before.end)
        return before.offset + round((after.offset - before.offset) * share)

    def between(self, begin_ns: int, end_ns: int) -> tuple[int, int]:
        """Return the lowest and the highest offset that wall time may have had from `begin_ns` to `end_ns`."""
        spans = self._spans
        latest = spans[-1]
        first = bisect_left(spans, begin_ns, key=lambda span: span.end)
        last = bisect_right(spans, end_ns, key=lambda span: span.end)
        within = list(islice(spans, first, last + 1))
        if last == len(spans):
            within.append(_Span(latest.end, end_ns, latest.offset, latest.offset, latest.offset))
        unrecorded = max(spans[0].end - begin_ns, *(span.end - span.begin for span in within))
        slewed = round(MAX_SLEW * unrecorded)
        return min(span.low for span in within) - slewed, max(span.high for span in within) + slewed
