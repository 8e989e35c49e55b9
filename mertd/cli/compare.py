"""`mertd model compare`: two ways to run MERT, on the same audio, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.capture.address import parse
from mertd.cli.output import say, say_json, spinner
from mertd.cli.settings import settings
from mertd.embed.audio import normalise
from mertd.embed.backends.choice import FACTORIES, choose
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import SourceError, UsageError, did_you_mean
from mertd.offline import windows

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """One way to run MERT. `states`: pooled hidden states, (layers, hidden)."""

    name: str
    states: Array


def compare(a: str, b: str, audio: Path | None, weights: str, flags: Mapping[str, Any], least: float, json: bool) -> bool:
    """Print cosine and largest error of every layer; whether all cosines reach `least`."""
    chosen = settings(None, flags)
    source = parse(f"file:{audio}" if audio else f"synth:chords?seconds={chosen.window + 1:g}")
    found = next(windows(source, chosen.window_samples, chosen.window_samples, lambda _: None), None)
    if found is None:
        raise SourceError(f"{source} is shorter than a window of {chosen.window:g} s; a shorter --window would fit")
    window = normalise(found[1])
    sides = []
    for name in (a, b):
        with spinner(f"running {name}"):
            sides.append(Side(name, _run(name, weights, window)))
    first, second = (side.states for side in sides)
    if first.shape != second.shape:
        raise UsageError(f"{a} gives hidden states {first.shape}, {b} gives {second.shape}: there is nothing to compare")
    cosine, error = cosines(first, second), np.abs(first - second).max(axis=-1)
    passed = bool((cosine >= least).all())
    if json:
        rows = [
            {"layer": i, "cosine": float(c), "max_error": float(e)} for i, (c, e) in enumerate(zip(cosine, error, strict=True))
        ]
        say_json({"a": a, "b": b, "least": least, "passed": passed, "layers": rows})
        return passed
    say("layer    cosine  max error")
    for layer, (c, e) in enumerate(zip(cosine, error, strict=True)):
        say(f"{layer:5d}  {c:.6f}  {e:9.2e}{'' if c >= least else '   below ' + format(least, 'g')}")
    say(f"{a} and {b} {'agree' if passed else 'DISAGREE'} on {chosen.window:g} s of {source}")
    return passed


def _run(name: str, weights: str, window: Array) -> Array:
    """All hidden states of a window, by a backend with `weights`, or by what a file holds."""
    if name.rstrip("/").endswith(".mlpackage"):
        from mertd.embed.backends.coreml_backend import run_package

        return run_package(Path(name), window)
    if name in FACTORIES:
        loaded = load(weights)
        backend = FACTORIES[name](loaded, _all(loaded))
    else:
        if not Path(name).exists():
            known = [*FACTORIES, "a .mlpackage", "a checkpoint"]
            raise UsageError(f"{name!r} is neither of {', '.join(known)}{did_you_mean(name, FACTORIES)}")
        from mertd.embed.weights.checkpoint import import_checkpoint

        loaded = import_checkpoint(Path(name))
        backend = choose("auto", loaded, _all(loaded)).backend
    return np.asarray(backend.embed(window[None])[0])


def _all(weights: Weights) -> tuple[int, ...]:
    return tuple(range(weights.architecture.states))
