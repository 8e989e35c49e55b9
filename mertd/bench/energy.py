"""The energy of a window, and what a daemon takes that runs all day: silent, and with music.

Joules come from this machine's meters, if it has any; seconds of CPU are known everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mertd.bench.energy_log import EnergyLog
from mertd.bench.measure import cpu_s
from mertd.bench.running import DaemonProcess
from mertd.bench.sections import Plan
from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import normalise
from mertd.embed.backends.choice import choose
from mertd.embed.weights.loading import load
from mertd.wire import Status

IDLE_S = 10.0
"""Seconds for which the machine is measured without mertd."""

WINDOWS_S = 20.0
"""Seconds for which windows are embedded one after another."""

DAEMON_S = 120.0
"""Seconds for which each daemon is measured."""

HOUR_S = 3_600.0
"""Seconds in an hour."""


def measure_energy(plan: Plan, path: str, layer: int, progress: Callable[[str], object]) -> dict[str, Any]:
    """Return the figures of the section. `path`: of the weights."""
    with EnergyLog() as log:
        progress("the machine without mertd")
        idle = _watts(log, 1.0 if plan.quick else IDLE_S)
        windows = _windows(plan, path, layer, log, idle, progress)
        options = [
            "--weights",
            path,
            "--layers",
            str(layer),
            "--window",
            f"{plan.seconds:g}",
            "--hop",
            "1" if plan.quick else "5",
        ]
        seconds = 3.0 if plan.quick else DAEMON_S
        daemons = [_daemon(name, source, options, seconds, log, idle, progress) for name, source in _SOURCES.items()]
        return {"meters": [*idle], "absent": log.absent, "idle_w": idle, "windows": windows, "daemons": daemons}


_SOURCES = {"a silent stream": "synth:silence", "a playing stream": "synth:chords"}
"""What daemons listen to."""


def _watts(log: EnergyLog, seconds: float) -> dict[str, float]:
    start = log.read()
    time.sleep(seconds)
    return start.watts_until(log.read())


def _windows(
    plan: Plan, path: str, layer: int, log: EnergyLog, idle: Mapping[str, float], progress: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Embed windows one after another, in the smallest and the largest batch."""
    length = round(plan.seconds * SAMPLE_RATE)
    backend = choose("auto", load(path), (layer,), window=length).backend
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal((backend.max_batch, length), np.float32)
    batch = np.stack([normalise(window) for window in noise])
    rows = []
    for count in sorted({1, backend.max_batch}):
        progress(f"{backend.name}, {count} windows at once")
        backend.embed(batch[:count])
        done = 0
        start, used = log.read(), time.process_time()
        while time.perf_counter() - start.at_s < (1.0 if plan.quick else WINDOWS_S):
            backend.embed(batch[:count])
            done += count
        end, used = log.read(), time.process_time() - used
        seconds = end.at_s - start.at_s
        watts = start.watts_until(end)
        rows.append(
            {
                "backend": backend.name,
                "precision": backend.precision,
                "batch": count,
                "windows": done,
                "ms": 1e3 * seconds / done,
                "cpu_s": used / done,
                "joules": {name: power * seconds / done for name, power in watts.items()},
                "joules_above_idle": {name: (power - idle[name]) * seconds / done for name, power in watts.items()},
            }
        )
    return rows


def _daemon(
    name: str,
    source: str,
    options: list[str],
    seconds: float,
    log: EnergyLog,
    idle: Mapping[str, float],
    progress: Callable[[str], object],
) -> dict[str, Any]:
    """Run a daemon with one stream in real time. It is measured once the stream's first window is done."""
    with DaemonProcess("--source", source, *options) as daemon:
        progress(f"{name}: until its first window is done")
        status = daemon.until(lambda status: _windows_done(status) > 0)
        progress(f"{name}: {seconds:.0f} s")
        pids = {process: int(facts["pid"]) for process, facts in status.processes.items()}
        used = {process: cpu_s(pid) for process, pid in pids.items()}
        start, before = log.read(), _windows_done(status)
        time.sleep(seconds)
        end = log.read()
        used = {process: cpu_s(pid) - used[process] for process, pid in pids.items()}
        windows = _windows_done(daemon.until(lambda _: True)) - before
    hours = (end.at_s - start.at_s) / HOUR_S
    watts = start.watts_until(end)
    return {
        "name": name,
        "windows": windows,
        "cpu_s_per_hour": {process: taken / hours for process, taken in used.items()},
        "watts_above_idle": {meter: power - idle[meter] for meter, power in watts.items()},
    }


def _windows_done(status: Status) -> int:
    """Return how many windows were embedded or found silent."""
    return sum(int(stream["embedded"]) + int(stream["silent"]) for stream in status.streams.values())
