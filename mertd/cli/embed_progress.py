"""How a batch of recordings goes: a bar at a terminal, and now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mertd.cli.output import complain, say_aside

if TYPE_CHECKING:
    from rich.progress import Progress

    from mertd.offline.inputs import Input

FIRST_LINE_S = 30.0
"""Seconds after which the first line tells how far a batch is, where there is no terminal."""

LINE_EVERY_S = 60.0
"""Seconds between two such lines."""

SETTLED_S = 2.0
"""Seconds of work after which a rate means something."""


class EmbedProgress:
    """Counts what is done of a batch, shows it, and prints what is to be said about its inputs.

    What is left is told from the bytes of the files, because only decoding a file says for certain how long it is.
    """

    def __init__(self, progress: Progress, inputs: list[Input], clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._count = len(inputs)
        self._done = 0  # inputs
        self._sizes = {item.key: size for item in inputs if (size := _size(item))}  # of inputs that have not ended, bytes
        self._bytes_left = sum(self._sizes.values())
        self._bytes_done = 0  # of inputs of which something was embedded in this run
        self._heard_s: dict[tuple[bytes, int], float] = {}  # seconds of audio of inputs in work
        self._ended_s = 0.0  # seconds of audio of inputs that have ended
        self._started_s = clock()
        self._next_line_s = self._started_s + FIRST_LINE_S
        self._task = progress.add_task(self._words(), total=1.0 if self._bytes_left else None)

    def began(self, item: Input) -> None:
        """Do nothing: an input counts when it has ended."""

    def progress(self, item: Input, seconds: float) -> None:
        """Take the seconds of audio embedded of an input."""
        if seconds:
            self._heard_s[item.key] = seconds
        self._show()

    def say(self, text: str) -> None:
        """Print a line."""
        complain(text)

    def ended(self, item: Input, problem: str) -> None:
        """Count an input."""
        if problem:
            complain(problem)
        self._done += 1
        size, heard_s = self._sizes.pop(item.key, 0), self._heard_s.pop(item.key, 0.0)
        self._bytes_left -= size
        if heard_s:
            self._ended_s += heard_s
            self._bytes_done += size
        self._show()

    def _show(self) -> None:
        self._progress.update(self._task, description=self._words(), completed=self._share)
        if self._progress.disable and self._clock() >= self._next_line_s:
            self._next_line_s = self._clock() + LINE_EVERY_S
            say_aside(self._words())

    @property
    def _share(self) -> float:
        """The share of the work of this run that is done. Inputs in work have the bytes a second of those that have ended."""
        bytes_per_s = self._bytes_done / self._ended_s if self._ended_s else 0.0
        begun = sum(min(heard_s * bytes_per_s, self._sizes.get(key, 0)) for key, heard_s in self._heard_s.items())
        return (self._bytes_done + begun) / max(1, self._bytes_done + self._bytes_left)

    def _words(self) -> str:
        """Return how far it is: `12 of 200 files, 4.1 hours of audio a minute, 3 min left`."""
        words = [f"{self._done} of {self._count} inputs"]
        took_s = self._clock() - self._started_s
        heard_s = self._ended_s + sum(self._heard_s.values())
        if heard_s and took_s >= SETTLED_S:
            words.append(f"{heard_s / 60 / took_s:.3g} hours of audio a minute")
            if self._bytes_done and self._bytes_left:
                words.append(f"{_span(took_s * (1 / self._share - 1))} left")
        return ", ".join(words)


def _size(item: Input) -> int:
    fingerprint = item.fingerprint()
    return fingerprint[0] if fingerprint else 0


def _span(seconds: float) -> str:
    """Return a span of time in its largest unit: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"
