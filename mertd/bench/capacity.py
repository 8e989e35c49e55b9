"""Measure how many real-time streams this machine carries before windows are skipped, with the real daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mertd.bench.running import DaemonProcess, sources
from mertd.wire import Status


@dataclass(frozen=True)
class Trial:
    """What became of the windows of some streams at once."""

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
    """Run trials and return them, ordered by number of streams. The number is doubled from `first` on until windows are skipped
    or `most` is exceeded; then the gap is halved until it is at most an eighth of what was carried.

    `options`: of `mertd run`. `seconds`: how long each trial counts, once every stream has an embedding.
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
    """Return the largest number of streams below the first that was too large."""
    return max((t.streams for t in trials if t.carried), default=0)


def trial(options: list[str], count: int, seconds: float) -> Trial:
    """Run `count` streams for `seconds`. Windows that were skipped before every stream had its first embedding do not count:
    the model was still loading.
    """
    with DaemonProcess(*sources(count), *options) as daemon:
        start = daemon.until(lambda s: all(stream["embedded"] for stream in s.streams.values()))
        time.sleep(seconds)
        end = daemon.until(lambda _: True)
    due, embedded, skipped = (_total(end, name) - _total(start, name) for name in ("due", "embedded", "skipped"))
    return Trial(count, due, embedded, skipped)


def _total(status: Status, name: str) -> int:
    return sum(int(stream[name]) for stream in status.streams.values())
