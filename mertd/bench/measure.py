"""Fair measuring: contenders take turns, so that other work on the machine affects all of them alike."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some measurements, and how many there were."""

    median: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(values: Sequence[float], scale: float = 1.0) -> Spread:
        """Return the spread of `values` times `scale`."""
        low, median, high = np.percentile(np.asarray(values) * scale, [25, 50, 75])
        return Spread(float(median), float(low), float(high), len(values))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def take_turns(
    contenders: Mapping[str, Callable[[], object]], runs: int, progress: Callable[[str], object] = lambda _: None
) -> dict[str, list[float]]:
    """Return the seconds that each call took, `runs` per contender after one to warm up.

    Every round begins with another contender.
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        progress(f"{name}: warming up")
        contenders[name]()
    for turn in range(runs):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            progress(f"{name}: {turn + 1} of {runs}")
            start = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - start)
    return times


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return median, 99th percentile, maximum and count."""
    p50, p99, largest = np.percentile(np.asarray(values), [50, 99, 100])
    return {"p50": float(p50), "p99": float(p99), "max": float(largest), "count": len(values)}


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU, user and system, that a process has used. Raises `ProcessLookupError` if it has ended."""
    if (text := _proc(pid, "stat")) is None:
        return parse_ps_time(_ps(pid, "time"))
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def usable_processors() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_cpu_s() -> float:
    """Return the seconds of CPU that all programs of the machine have used, on all cores; 0 where the system does not tell."""
    try:
        user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:8]
    except (OSError, ValueError):
        return 0.0
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the megabytes of memory that a process holds. Raises `ProcessLookupError` if it has ended."""
    if (text := _proc(pid, "statm")) is None:
        return int(_ps(pid, "rss")) * 1024 / 1e6
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def parse_ps_time(text: str) -> float:
    """Return the seconds in a time of `ps`: `[[days-]hours:]minutes:seconds[.hundredths]`."""
    days, _, rest = text.strip().rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = 60 * total + float(part)
    return 86_400 * int(days or 0) + total


def _proc(pid: int, name: str) -> str | None:
    """Return what Linux says of a process; None on other systems. On a Linux `ps` may be missing, and tells whole seconds."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            raise ProcessLookupError(f"no process {pid}") from None
        return None


def _ps(pid: int, column: str) -> str:
    done = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise ProcessLookupError(f"no process {pid}")
    return done.stdout.strip()
