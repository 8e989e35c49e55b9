"""An accelerated day: a file at fast pace through the real daemon with the tiny network, 17,280 windows, every message counted.

Run: PYTHONPATH=tests python tests/soak/day.py [--windows 17280] [--csv FILE]
Fails if a window or a message is unaccounted for, or if a process grows.

Memory that belongs to each process alone (USS) is noted with every status, once a second. A line is fitted to what follows the
first third, in which allocators settle, by the medians of `PARTS` parts: a sample taken in the middle of an inference is
larger. A run takes a minute or two, so a slope in megabytes an hour of it would be mostly noise; what a daemon must bear is
windows, 720 an hour at the usual hop of 5 s. Hence two limits: the upper end (3 standard errors) of the slope per 720 windows,
and the whole growth along the line.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile

from daemon_process import TINY, Daemon
from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Embedding, Event, Status
from signals import chord_progression

WINDOW_S = 1.0
"""Seconds in a window."""

HOP_S = 0.25
"""Seconds between the starts of two windows."""

RATE = 24_000
"""Hz, of the file."""

HOUR = 720
"""Windows in an hour at a hop of 5 s."""

PARTS = 6
"""Parts of the run, of each of which the median counts."""

SLOPE_MB = 1.0
"""Largest slope of the line, in megabytes per `HOUR` windows."""

GROWTH_MB = 4.0
"""Largest growth along the line, in megabytes."""

SILENT_EVERY = 50
"""One second in so many is silent."""


@dataclass(frozen=True)
class Sample:
    """Memory of one process after so many windows."""

    process: str
    seconds: float
    windows: int
    megabytes: float


@dataclass(frozen=True)
class Slope:
    """MB per 720 windows with its standard error, and MB from the first to the last fitted sample."""

    slope: float
    error: float
    growth: float


@dataclass
class Day:
    """What came of it."""

    seconds: float
    final: Status
    received: Counter[str]
    lost: Counter[str]
    skipped: int
    samples: list[Sample]


def write_day(path: Path, windows: int) -> None:
    """A sound file of exactly so many windows, with silent seconds in it."""
    minute = np.round(chord_progression(60.0) * 20_000).astype(np.int16)
    frames = round((WINDOW_S + HOP_S * (windows - 1)) * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for begin in range(0, frames, len(minute)):
            part = minute[: frames - begin].copy()
            seconds = (begin + np.arange(len(part))) // RATE
            part[seconds % SILENT_EVERY == SILENT_EVERY - 1] = 0
            file.write(part)


def run(windows: int) -> Day:
    """The day, to its end."""
    received: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    samples: list[Sample] = []
    skipped, final = 0, None
    with tempfile.TemporaryDirectory(prefix="mertd-soak-") as folder:
        path = Path(folder, "day.wav")
        write_day(path, windows)
        pace = ["--pace", "fast", "--exit-at-end", "--window", WINDOW_S, "--hop", HOP_S, "--backend", "onnx"]
        began = time.monotonic()
        with Daemon(*TINY, *pace, "--source", f"file:{path}") as daemon:
            subscriber = Subscriber(daemon.publish, kinds=("embedding", "event", "status"))
            while (message := subscriber.receive(0.5)) is not None or daemon.process.poll() is None:
                if message is None:
                    continue
                received[message.message.kind] += 1
                lost[message.message.kind] += message.lost
                match message.message:
                    case Status() as final:
                        samples += measure(final, time.monotonic() - began)
                    case Embedding() as embedding:
                        skipped += embedding.skipped
                    case Event(event="skipped") as event:
                        assert event.detail["windows"] > 0
            subscriber.close()
            daemon.exits(0)
        assert final is not None
        return Day(time.monotonic() - began, final, received, lost, skipped, samples)


def measure(status: Status, seconds: float) -> list[Sample]:
    """The memory of every process that the status names."""
    windows = sum(stream["embedded"] + stream["silent"] for stream in status.streams.values())
    samples = []
    for name, facts in status.processes.items():
        try:
            size = psutil.Process(facts["pid"]).memory_full_info().uss / 1e6
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        samples.append(Sample(name, seconds, windows, size))
    return samples


def slopes(samples: list[Sample]) -> dict[str, Slope]:
    """The line of each process, by least squares over what follows the first third."""
    of: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.windows > 0:
            of[sample.process].append(sample)
    found = {}
    for name, all_of_it in of.items():
        kept = [s for s in all_of_it if s.windows > all_of_it[-1].windows / 3]
        if len(kept) < 3 * PARTS:
            continue
        parts = np.array_split(np.array([(s.windows / HOUR, s.megabytes) for s in kept]), PARTS)
        x, y = np.array([np.median(part, axis=0) for part in parts]).T
        centred = x - x.mean()
        slope = float((centred * (y - y.mean())).sum() / (centred**2).sum())
        residuals = y - y.mean() - slope * centred
        error = float(np.sqrt((residuals**2).sum() / (len(x) - 2) / (centred**2).sum()))
        found[name] = Slope(slope, error, slope * float(x[-1] - x[0]))
    return found


def check(day: Day, windows: int) -> None:
    """The accounts, exactly."""
    (stream,) = day.final.streams.values()
    assert stream["due"] == windows, f"{stream['due']} windows were due, not {windows}"
    assert stream["due"] == stream["embedded"] + stream["silent"] + stream["skipped"], stream
    assert stream["waiting"] == 0
    assert stream["silent"] > 0, "the silent seconds were not noticed"
    assert day.received["embedding"] + day.lost["embedding"] == stream["embedded"], (day.received, day.lost, stream)
    assert stream["skipped"] == day.skipped == 0, "at fast pace nothing is skipped"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=17_280)
    parser.add_argument("--csv", type=Path, help="where to write the memory record")
    options = parser.parse_args()
    day = run(options.windows)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([("process", "seconds", "windows", "megabytes")])
            csv.writer(file).writerows((s.process, f"{s.seconds:.2f}", s.windows, f"{s.megabytes:.3f}") for s in day.samples)
    rate = options.windows / day.seconds
    print(
        f"{options.windows} windows in {day.seconds:.0f} s ({rate:.0f}/s); received {dict(day.received)}, lost {dict(day.lost)}"
    )
    check(day, options.windows)
    lines = slopes(day.samples)
    assert {"supervisor", "embed"} <= lines.keys() or options.windows < 17_280, "too few samples of memory"
    for name, found in lines.items():
        print(f"{name:16s} {found.slope:+.3f} ± {found.error:.3f} MB per {HOUR} windows, {found.growth:+.2f} MB in all")
        assert found.slope + 3 * found.error < SLOPE_MB, f"{name} grows"
        assert found.growth < GROWTH_MB, f"{name} grows"


if __name__ == "__main__":
    main()
