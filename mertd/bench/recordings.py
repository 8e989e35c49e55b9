"""A folder of sound files: how long `mertd embed` takes, with a start that finds nothing kept and with one that does, where its
time goes, and a plain PyTorch loop beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mertd.bench import pytorch
from mertd.bench.measure import Spread
from mertd.bench.running import MERTD
from mertd.defaults import GATE_DBFS, SAMPLE_RATE
from mertd.embed.audio import normalise
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.offline.decoders import Decoders, Job, WindowSettings
from mertd.offline.inputs import Input, find_inputs
from mertd.offline.side_by_side import SideBySide
from mertd.offline.source_windows import NOTHING_DONE, HeardWindow, SilentWindow, WindowsDone
from mertd.offline.stored_batch import Outcome
from mertd.wire import Embedding

DISTINCT = 8
"""Recordings that differ; the others are copies of them."""

RATE = 44_100
"""Hz of the recordings, which have two channels, as most music has."""


@dataclass(frozen=True)
class RecordingsResult:
    """Seconds. `whole`: from the command to its end. `parts`: in one process, after its start."""

    files: int
    seconds: float  # of each
    windows: int
    decoders: int
    batch: int
    backend: str
    whole: dict[str, Spread]
    parts: dict[str, float]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return a JSON map."""
        return {
            **{name: getattr(self, name) for name in ("files", "seconds", "windows", "decoders", "batch", "backend", "notes")},
            "whole_s": {name: spread.as_json() for name, spread in self.whole.items()},
            "parts_s": self.parts,
        }


class Nowhere:
    """An output that keeps nothing, so that the disk is not measured."""

    def __init__(self) -> None:
        self.windows = 0

    def begin_batch(self, settings: Mapping[str, Any], inputs: list[Input]) -> list[str]:  # noqa: ARG002
        return []

    def finished(self, item: Input) -> Outcome | None:  # noqa: ARG002
        return None

    def begin(self, item: Input) -> WindowsDone:  # noqa: ARG002
        return NOTHING_DONE

    def add(self, item: Input, window: Embedding | SilentWindow) -> None:  # noqa: ARG002
        self.windows += 1

    def end(self, item: Input, outcome: Outcome) -> None: ...

    def finish(self, inputs: list[Input], all_well: bool) -> list[str]:  # noqa: ARG002
        return []

    def close(self) -> None: ...


def measure_recordings(
    weights: str,
    layer: int,
    window_s: float,
    hop_s: float,
    files: int,
    seconds: float,
    runs: int,
    progress: Callable[[str], object],
) -> RecordingsResult:
    """Embed `files` recordings of `seconds` each, in FLAC and MP3. `weights`: a file."""
    settings = WindowSettings(round(window_s * SAMPLE_RATE), round(hop_s * SAMPLE_RATE), GATE_DBFS)
    notes = []
    with tempfile.TemporaryDirectory(prefix="mertd-files-") as name:
        folder = Path(name)
        progress("making recordings")
        make_recordings(folder / "songs", files, seconds)
        options = ["--weights", weights, "--layers", str(layer), "--window", f"{window_s:g}", "--hop", f"{hop_s:g}"]
        times: dict[str, list[float]] = {}
        for run in range(runs):
            with cache_in(folder / f"cache-{run}"):
                for kind in ("mertd embed, first start on this machine", "mertd embed, started before"):
                    progress(f"{kind}: {run + 1} of {runs}")
                    command = [*MERTD, "embed", str(folder / "songs"), "--out", str(folder / "x.npz"), *options]
                    times.setdefault(kind, []).append(_took(command))
        progress("each part alone")
        embedder = Embedder(ModelSettings(weights, (layer,), "auto", settings.window))
        parts, windows, decoders = _parts(embedder, settings, folder / "songs")
        if pytorch.is_installed():
            for run in range(runs):
                progress(f"PyTorch: {run + 1} of {runs}")
                program = "import sys; from mertd.bench.pytorch_recordings import main; main(*sys.argv[1:])"
                words = [weights, str(layer), f"{window_s:g}", f"{hop_s:g}", str(decoders), str(folder / "songs")]
                began = time.perf_counter()
                done = subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True)
                times.setdefault("PyTorch loop", []).append(time.perf_counter() - began)
                found = json.loads(done.stdout.splitlines()[-1])
                name = f"PyTorch loop, {found['precision']} on {found['device']}, after its start"
                times.setdefault(name, []).append(found["seconds"])
        else:
            notes.append("PyTorch is left out: torch and transformers are not installed")
    model = embedder.info.model
    whole = {what: Spread.of(found) for what, found in times.items()}
    batch = embedder.backend.max_batch
    ran_on = f"{model.backend} {model.precision}"
    return RecordingsResult(files, seconds, windows, decoders, batch, ran_on, whole, parts, notes)


def _took(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - began


def _parts(embedder: Embedder, settings: WindowSettings, songs: Path) -> tuple[dict[str, float], int, int]:
    """Return the seconds of decoding alone, of the model alone, and of both together; how many windows; how many decoders."""
    inputs = find_inputs([str(songs)], lambda _: None)
    batch = embedder.backend.max_batch
    windows = 0
    began = time.perf_counter()
    decoders = Decoders(settings, embedder.threads.count, batch)
    for item in inputs:
        decoders.give(Job(item, NOTHING_DONE))
    while not decoders.is_idle:
        found = decoders.take(1.0)
        windows += found is not None and isinstance(found[1], HeardWindow)
    decoders.close()
    decoded = time.perf_counter()
    ready = normalise(np.random.Generator(np.random.PCG64(0)).standard_normal(settings.window, np.float32))
    embedder.embed_prepared([ready] * batch)
    warmed = time.perf_counter()
    for _ in range(-(-windows // batch)):
        embedder.embed_prepared([ready] * batch)
    computed = time.perf_counter()
    output = Nowhere()
    work = SideBySide(embedder, settings, output, lambda: False, lambda *_: None, lambda *_: None)
    work.run(inputs, lambda _: True)
    both = time.perf_counter() - computed
    return (
        {"decoding alone": decoded - began, "the model alone": computed - warmed, "both, side by side": both},
        windows,
        decoders.count,
    )


def make_recordings(folder: Path, count: int, seconds: float) -> None:
    """Write `count` recordings, half of them FLAC and half of them MP3: chords that differ, with a little noise."""
    import soundfile

    from mertd.capture.sources.synth import chords

    folder.mkdir(parents=True)
    suffixes = ("flac", "mp3") if "MP3" in soundfile.available_formats() else ("flac", "ogg")

    def write(number: int) -> Path:
        at = np.arange(round(seconds * RATE)) / RATE * (1 + number / 50)
        noise = np.random.Generator(np.random.PCG64(number)).standard_normal((len(at), 2), np.float32)
        path = folder / f"{number:04d}.{suffixes[number % 2]}"
        soundfile.write(path, np.asarray(chords(at), np.float32)[:, None] * (0.9, 0.8) + 0.01 * noise, RATE)
        return path

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(write, range(min(count, DISTINCT))))
    for number in range(len(made), count):
        source = made[number % len(made)]
        shutil.copyfile(source, folder / f"{number:04d}{source.suffix}")


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Let commands that are started keep in `folder` what they keep between starts: it begins empty."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
