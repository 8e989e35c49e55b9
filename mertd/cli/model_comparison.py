"""`mertd model compare`: two ways to run MERT, on the same audio, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mertd.capture.address import parse
from mertd.cli.output import say, say_json, spinner
from mertd.config import Settings
from mertd.embed.audio import normalise
from mertd.embed.backends.choice import FACTORIES, choose
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import SourceError, UsageError, did_you_mean
from mertd.offline.source_windows import windows

Array = NDArray[np.float32]


def compare_models(
    a: str, b: str, audio: Path | None, weights: str, units: str, settings: Settings, least: float, json: bool
) -> bool:
    """Print cosine and largest error of every layer, and return whether all cosines reach `least`. `units`: for packages."""
    source = parse(f"file:{audio}" if audio else f"synth:chords?seconds={settings.window + 1:g}")
    found = next(windows(source, settings.window_samples, settings.window_samples, lambda _: None), None)
    if found is None:
        raise SourceError(f"{source} is shorter than a window of {settings.window:g} s; a shorter --window would fit")
    window = normalise(found[1])
    with spinner(f"running {a}"):
        first = _hidden_states(a, weights, units, window)
    with spinner(f"running {b}"):
        second = _hidden_states(b, weights, units, window)
    if first.shape != second.shape:
        raise UsageError(f"hidden states of {a} have shape {first.shape}, those of {b} {second.shape}; they cannot be compared")
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
    say(f"{a} and {b} {'agree' if passed else 'DISAGREE'} on {settings.window:g} s of {source}")
    return passed


def _hidden_states(name: str, weights: str, units: str, window: Array) -> Array:
    """Return all hidden states of a window, (layers, hidden), from a backend with `weights` or the network in a file."""
    if name.rstrip("/").endswith(".mlpackage"):
        from mertd.embed.backends.coreml_backend import ComputeUnits, run_package

        return run_package(Path(name), window, cast(ComputeUnits, units.upper()))
    if name in FACTORIES:
        loaded = load(weights)
        backend = FACTORIES[name](loaded, _all(loaded))
    else:
        if not Path(name).exists():
            known = ", ".join([*FACTORIES, "a .mlpackage", "a checkpoint"])
            raise UsageError(f"unknown backend or file {name!r}; choose one of {known}{did_you_mean(name, FACTORIES)}")
        from mertd.embed.weights.checkpoint import import_checkpoint

        loaded = import_checkpoint(Path(name))
        backend = choose("auto", loaded, _all(loaded)).backend
    return np.asarray(backend.embed(window[None])[0])


def _all(weights: Weights) -> tuple[int, ...]:
    return tuple(range(weights.architecture.states))
