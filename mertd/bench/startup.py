"""The time from the command to a daemon that is ready, its stages, and the cost of short commands."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mertd.bench.measure import Spread
from mertd.bench.recordings import cache_in
from mertd.bench.running import MERTD, DaemonProcess

_LINES = {"imports, sockets bound": "publishing on", "capture hears": ": started ", "ready": " ready on "}
"""Stage of the start-up -> the text in the daemon's log that ends it."""


@dataclass(frozen=True)
class StartupResult:
    """Seconds. `daemon`: since the start of `mertd run`. `embed`: each stage alone, one after the other; the daemon overlaps
    some of them. `cpu`: CPU of short commands.
    """

    daemon: dict[str, Spread]
    embed: dict[str, Spread]
    cpu: dict[str, Spread]

    def as_json(self) -> dict[str, Any]:
        return {
            part: {name: spread.as_json() for name, spread in found.items()}
            for part, found in (("daemon_s", self.daemon), ("embed_alone_s", self.embed), ("command_cpu_s", self.cpu))
        }


def measure_startup(weights: str, layers: str, window: float, runs: int, progress: Callable[[str], object]) -> StartupResult:
    """Start everything `runs` times, after one start that warms the file cache.

    Each time in a cache of its own that is empty at first: the first start runs the self-check, the next one need not.
    """
    daemon: dict[str, list[float]] = {}
    embed: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    options = ["--weights", weights, "--layers", layers, "--window", f"{window:g}"]
    for run in range(runs + 1):
        progress(f"start-up: {run} of {runs}")
        with tempfile.TemporaryDirectory(prefix="mertd-cache-") as cache, cache_in(Path(cache)):
            with DaemonProcess("--source", "synth:chords", *options) as started:
                found = {f"{name}, first start on this machine": started.said(_LINES[name]) for name in ("ready",)}
            with DaemonProcess("--source", "synth:chords", *options) as started:
                found |= {f"{name}, started before": started.said(text) for name, text in _LINES.items()}
        stages = _stages(weights, layers, window)
        spent = {"mertd --help": _cpu([*MERTD, "--help"])}
        with DaemonProcess(
            "--source", "synth:chords", "--weights", "random:0?size=tiny", "--layers", "1", "--window", "1"
        ) as tiny:
            tiny.said(" ready on ")
            listen = ["tail", "--connect", tiny.publish, "--control", tiny.control, "--last", "1", "--count", "1"]
            tiny.until(lambda status: status.published > 5 and any(s["embedded"] for s in status.streams.values()))
            spent["mertd tail, to the first message"] = _cpu([*MERTD, *listen[:5], "--count", "1"])
            spent["mertd tail --last 1"] = _cpu([*MERTD, *listen])
        if run:
            for kept, now in ((daemon, found), (embed, stages), (cpu, spent)):
                for name, seconds in now.items():
                    kept.setdefault(name, []).append(seconds)
    return StartupResult(*({name: Spread.of(times) for name, times in kept.items()} for kept in (daemon, embed, cpu)))


def _cpu(command: list[str]) -> float:
    """Run a command and return the seconds of CPU, user and system, that it used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _stages(weights: str, layers: str, window: float) -> dict[str, float]:
    """Return the seconds of each stage of an embed process, in a fresh interpreter."""
    program = "import sys; from mertd.bench.startup import stages; stages(*sys.argv[1:])"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, weights, layers, str(window)], check=True, capture_output=True, text=True
    )
    whole = time.perf_counter() - start
    found: dict[str, float] = json.loads(done.stdout)
    imports = whole - sum(found.values()) + found.pop("imports")
    return {"interpreter, imports": imports, **found}


def stages(weights: str, layers: str, window: str) -> None:
    """Do what an embed process does, in an interpreter of its own, and write the seconds per stage to standard output."""
    found: dict[str, float] = {}
    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        found[name], last = now - last, now

    from mertd.defaults import SAMPLE_RATE
    from mertd.embed import process  # noqa: F401
    from mertd.embed.backends.check_stamp import CheckStamp
    from mertd.embed.backends.choice import FACTORIES, candidates
    from mertd.embed.backends.numpy_backend import NumpyBackend
    from mertd.embed.backends.self_check import check, check_signal
    from mertd.embed.weights.loading import load

    lap("imports")
    loaded = load(weights)
    lap("weights: read, checked, digested")
    chosen = tuple(int(layer) for layer in layers.split(","))
    name = candidates("auto")[0]
    backend = FACTORIES[name](loaded, chosen)
    lap(f"{name}: import")
    backend.prepare(SAMPLE_RATE)
    lap(f"{name}: built for the self-check")
    reference = NumpyBackend(loaded, chosen).embed(check_signal()[None])
    lap("self-check: numpy reference")
    check(backend, reference)
    lap(f"self-check: {name}")
    backend.check_size(round(float(window) * SAMPLE_RATE))
    lap(f"{name}: formulations compared at the window's size")
    backend.prepare(round(float(window) * SAMPLE_RATE))
    lap(f"{name}: built for the window")
    CheckStamp(backend, loaded, chosen, round(float(window) * SAMPLE_RATE)).read()
    lap("note of a passed check: looked up")
    sys.stdout.write(json.dumps(found))
