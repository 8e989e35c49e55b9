"""Measure with the real daemon how many real-time streams this machine carries before windows are skipped, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mertd.bench.measure import cpu_s, machine_cpu_s, resident_mb, usable_processors
from mertd.bench.running import DaemonProcess, sources
from mertd.errors import BackendError
from mertd.wire import Status

FULL_PERCENT = 85.0
"""Percent of a core, or of all cores, from which on it counts as full: the rest is lost to waiting and to other programs."""

ASKED_PER_S = 200.0
"""Streams whose status is asked for in a second, so that asking costs little."""


@dataclass(frozen=True)
class Load:
    """What the processes of a daemon took. CPU: percent of one core."""

    supervisor: float
    captures: float  # all together
    model: float
    others: float  # other programs, as far as the system tells
    capture_processes: int
    supervisor_mb: float  # resident

    def explain(self, cores: int) -> str:
        """Return in words what is full, if windows were skipped under this load."""
        total = self.supervisor + self.captures + self.model + self.others
        if self.supervisor >= FULL_PERCENT:
            return f"supervisor: its core is full ({self.supervisor:.0f} %)"
        if total >= FULL_PERCENT * cores:
            parts = f"captures {self.captures:.0f}, model {self.model:.0f}, other programs {self.others:.0f}"
            return f"processors: {total:.0f} % of {cores} cores, {parts}"
        return f"model: its process takes {self.model:.0f} % of a core, and {100 * cores - total:.0f} % are idle"


@dataclass(frozen=True)
class Trial:
    """What became of the windows of some streams at once."""

    streams: int
    due: int = 0
    embedded: int = 0
    skipped: int = 0
    start_s: float = 0.0  # until every stream was open
    load: Load | None = None  # None: it did not get so far
    ended_by: str = ""  # why windows were skipped; empty if none were

    @property
    def carried(self) -> bool:
        return not self.ended_by

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    options: list[str], seconds: float, first: int, most: int, progress: Callable[[str], object], source: str = "synth:chords"
) -> list[Trial]:
    """Run trials and return them, ordered by number of streams. The number is doubled from `first` on until windows are skipped
    or `most` is exceeded; then the gap is halved until it is at most an eighth of what was carried.

    `options`: of `mertd run`. `seconds`: how long each trial counts, once every stream has an embedding. `source`: of each.
    """
    trials: dict[int, Trial] = {}

    def carries(count: int) -> bool:
        progress(f"{count} streams for {seconds:.0f} s")
        trials[count] = trial(options, count, seconds, source)
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


def ended_by(trials: list[Trial]) -> str:
    """Return what ended the smallest trial that was too large; empty if none was."""
    return next((t.ended_by for t in trials if not t.carried), "")


def trial(options: list[str], count: int, seconds: float, source: str) -> Trial:
    """Run `count` streams for `seconds`. Windows that were skipped before every stream had its first embedding do not count:
    the model was still loading.
    """
    pause_s = max(0.1, count / ASKED_PER_S)
    began = time.monotonic()
    try:
        with DaemonProcess(*sources(count, source), *options) as daemon:
            daemon.until(lambda s: all(stream["state"] != "opening" for stream in s.streams.values()), pause_s)
            start_s = time.monotonic() - began
            start = daemon.until(lambda s: all(stream["embedded"] for stream in s.streams.values()), pause_s)
            counted, machine = time.monotonic(), machine_cpu_s()
            before = _cpu_s(start)
            time.sleep(seconds)
            after = _cpu_s(start)
            elapsed, busy_s = time.monotonic() - counted, machine_cpu_s() - machine
            end = daemon.until(lambda _: True)
    except BackendError as error:  # too many to start, for example
        return Trial(count, ended_by=str(error).splitlines()[-1])
    due, embedded, skipped = (_total(end, name) - _total(start, name) for name in ("due", "embedded", "skipped"))
    used = {pid: 100 * (after.get(pid, 0.0) - cpu) / elapsed for pid, cpu in before.items()}
    own, model = (int(start.processes[name]["pid"]) for name in ("supervisor", "embed"))
    captures = set(used) - {own, model}
    others = max(0.0, 100 * busy_s / elapsed - sum(used.values()))
    load = Load(used[own], sum(used[pid] for pid in captures), used[model], others, len(captures), _memory_mb(own))
    return Trial(count, due, embedded, skipped, start_s, load, load.explain(usable_processors()) if skipped else "")


def _cpu_s(status: Status) -> dict[int, float]:
    """Return the CPU seconds of the daemon's processes so far; one that has died has none."""
    found: dict[int, float] = {}
    for pid in {int(process["pid"]) for process in status.processes.values()} - {0}:
        try:
            found[pid] = cpu_s(pid)
        except ProcessLookupError:
            continue
    return found


def _memory_mb(pid: int) -> float:
    try:
        return resident_mb(pid)
    except ProcessLookupError:
        return 0.0


def _total(status: Status, name: str) -> int:
    return sum(int(stream[name]) for stream in status.streams.values())
