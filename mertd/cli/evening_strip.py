"""A time as a strip of a few lines: what was novel, or alike, and when. For terminals; pipes get none.

Rules of this file: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mertd.cli.memory_commands import moment
from mertd.cli.terminal_text import blocks_for, marked, strip

FULL_NOVELTY = 0.5
"""Least novelty that is drawn at full height, as a share of the stream's variance: noise stays low."""

FULL_SIMILARITY = 1.0
"""Similarity that is drawn at full height."""

MIN_WIDTH = 16
"""Columns that a strip needs for its times."""

MAX_WIDTH = 200
"""Columns of a strip at most."""

SHORT = slice(11, 16)
"""Hours and minutes of a time that is written out."""

LONG = slice(5, 16)
"""The same with the month and the day."""


@dataclass
class Evening:
    """What a strip shows, of one stream. Times are Unix nanoseconds.

    Attributes:
        points: values at their times.
        marks: single characters at their times.
        full: least value that is drawn at full height.
    """

    full: float
    points: list[tuple[int, float]] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)

    def lines(self, since_ns: int, until_ns: int, columns: int, encoding: str) -> list[str]:
        """Return the strip in lines: values, marks if there are any, and the times of both ends. Nothing if it does not fit."""
        width = min(columns, MAX_WIDTH)
        if width < MIN_WIDTH or until_ns <= since_ns or not self.points:
            return []
        values = strip(self.points, since_ns, until_ns, width, blocks_for(encoding), self.full)
        marks = marked(self.marks, since_ns, until_ns, width)
        return [values, *([marks] if marks else []), axis(since_ns, until_ns, width)]


def axis(since_ns: int, until_ns: int, width: int) -> str:
    """Return a line with the first and the last time; with their days if these differ and there is room."""
    begin, end = moment(since_ns), moment(until_ns)
    part = LONG if begin[:10] != end[:10] and width >= 2 * (LONG.stop - LONG.start) + 1 else SHORT
    return begin[part] + end[part].rjust(width - (part.stop - part.start))


def span_of(times: Iterable[int]) -> tuple[int, int]:
    """Return the first and the last of some times; (0, 0) for none."""
    found = sorted(times)
    return (found[0], found[-1]) if found else (0, 0)
