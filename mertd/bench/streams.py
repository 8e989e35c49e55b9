"""How many real-time streams this machine carries before windows are skipped: the real daemon, ever more sources."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mertd.bench.running import Daemon, sources
from mertd.wire import Status


@dataclass(frozen=True)
class Trial:
    """So many streams at once, and their windows."""

    streams: int
    due: int
    embedded: int
    skipped: int

    @property
    def carried(self) -> bool:
        return not self.skipped

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(options: list[str], seconds: float, first: int, most: int, progress: Callable[[str], object]) -> list[Trial]:
    """Trials, ordered by number of streams: from `first` doubled until windows are skipped, or `most` is passed; then the gap
    is halved until it is an eighth or less of what was carried.

    `options`: of `mertd run`. `seconds`: how long each trial counts, after the first windows of all streams are embedded.
    """
    trials: dict[int, Trial] = {}

    def carries(count: int) -> bool:
        progress(f"{count} streams for {seconds:.0f} s")
        trials[count] = trial(options, count, seconds)
        return trials[count].carried

    good, count = 0, first
    while count <= most and carries(count):
        good, count = count, count * 2
    bad = count
    while bad - good > max(1, good // 8) and bad <= most:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if carries(middle) else (good, middle)
    return [trials[count] for count in sorted(trials)]


def most_carried(trials: list[Trial]) -> int:
    """The largest number of streams below the first that was too many."""
    return max((t.streams for t in trials if t.carried), default=0)


def trial(options: list[str], count: int, seconds: float) -> Trial:
    """Run `count` streams for `seconds`. What was skipped before each had its first embedding, as the model was loading, does
    not count.
    """
    with Daemon(*sources(count), *options) as daemon:
        start = daemon.until(lambda s: all(stream["embedded"] for stream in s.streams.values()))
        time.sleep(seconds)
        end = daemon.until(lambda _: True)
    due, embedded, skipped = (_total(end, name) - _total(start, name) for name in ("due", "embedded", "skipped"))
    return Trial(count, due, embedded, skipped)


def _total(status: Status, name: str) -> int:
    return sum(int(stream[name]) for stream in status.streams.values())
