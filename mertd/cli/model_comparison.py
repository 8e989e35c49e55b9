"""`mertd model compare`: two ways to run MERT, on the same audio, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mertd.bench.measure import Spread, take_turns
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
Run = Callable[[], Array]


def compare_models(
    a: str, b: str, audio: Path | None, weights: str, units: str, settings: Settings, least: float, runs: int, json: bool
) -> bool:
    """Print cosine and largest error of every layer, and return whether all cosines reach `least`.

    `units`: for packages. `runs`: how often each is then timed, in turns; 0 for not at all.
    """
    source = parse(f"file:{audio}" if audio else f"synth:chords?seconds={settings.window + 1:g}")
    found = next(windows(source, settings.window_samples, settings.window_samples, lambda _: None), None)
    if found is None:
        raise SourceError(f"{source} is shorter than a window of {settings.window:g} s; a shorter --window would fit")
    window = normalise(found[1])
    with ExitStack() as loaded:
        with spinner(f"running {a}"):
            run_a = loaded.enter_context(_network(a, weights, units))
            first = run_a(window)
        with spinner(f"running {b}"):
            run_b = loaded.enter_context(_network(b, weights, units))
            second = run_b(window)
        if first.shape != second.shape:
            shapes = f"hidden states of {a} have shape {first.shape}, those of {b} {second.shape}"
            raise UsageError(f"{shapes}; they cannot be compared")
        times = _times(partial(run_a, window), partial(run_b, window), runs) if runs else []
    cosine, error = cosines(first, second), np.abs(first - second).max(axis=-1)
    passed = bool((cosine >= least).all())
    if json:
        rows = [
            {"layer": i, "cosine": float(c), "max_error": float(e)} for i, (c, e) in enumerate(zip(cosine, error, strict=True))
        ]
        timed = {"ms_per_window": [spread.as_json() for spread in times]} if times else {}
        say_json({"a": a, "b": b, "least": least, "passed": passed, "layers": rows, **timed})
        return passed
    say("layer    cosine  max error")
    for layer, (c, e) in enumerate(zip(cosine, error, strict=True)):
        say(f"{layer:5d}  {c:.6f}  {e:9.2e}{'' if c >= least else '   below ' + format(least, 'g')}")
    for name, spread in zip((a, b), times, strict=False):
        say(f"{name}: {spread.median:.2f} ms a window, quartiles {spread.low:.2f} and {spread.high:.2f}, {spread.count} runs")
    say(f"{a} and {b} {'agree' if passed else 'DISAGREE'} on {settings.window:g} s of {source}")
    return passed


def _times(run_a: Run, run_b: Run, runs: int) -> list[Spread]:
    """Return milliseconds a window of both."""
    with spinner("measuring"):
        return [Spread.of(seconds, 1e3) for seconds in take_turns({"a": run_a, "b": run_b}, runs).values()]


@contextmanager
def _network(name: str, weights: str, units: str) -> Iterator[Callable[[Array], Array]]:
    """Yield what returns all hidden states of a window, (samples,) -> (layers, hidden).

    `name`: a backend, which runs `weights`, or a file with a network.
    """
    if name.rstrip("/").endswith(".mlpackage"):
        from mertd.embed.backends.coreml_backend import ComputeUnits, loaded_package

        with loaded_package(Path(name), cast(ComputeUnits, units.upper())) as run:
            yield run
        return
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
    yield lambda window: np.asarray(backend.embed(window[None])[0])


def _all(weights: Weights) -> tuple[int, ...]:
    return tuple(range(weights.architecture.states))
