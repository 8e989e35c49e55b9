"""`mertd model …`, but for `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from mertd.cli.output import say, say_json, spinner
from mertd.cli.settings import settings
from mertd.config import default_weights
from mertd.embed.architecture import MERT_95M
from mertd.embed.embedder import model_name, space
from mertd.embed.weights.loading import load, save
from mertd.embed.weights.tensors import Weights
from mertd.errors import UsageError


def pull(out: Path | None) -> None:
    """Fetch trained weights; the hub's client shows its own progress bars."""
    from mertd import hub

    say(f"MERT's weights are {hub.LICENCE}: credit Li et al. 2024 (arXiv 2306.00107), no commercial use.")
    pulled = hub.pull(out or default_weights())
    for reason in pulled.passed_over:
        say(f"passed over: {reason}")
    say(f"{pulled.path}: from {pulled.source}, digest {pulled.digest[:16]}")


def import_(source: Path, out: Path | None) -> None:
    """Convert a checkpoint and say whether it is the known one."""
    from mertd.embed.weights.checkpoint import ORIGINAL, fingerprint, import_checkpoint

    destination = out or default_weights()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with spinner(f"reading {source}"):
        weights = import_checkpoint(source)
        known = fingerprint(source) == ORIGINAL
        save(weights, destination)
    say(_summary(str(destination), weights))
    say("the original MERT-v1-95M checkpoint" if known else "not the original MERT-v1-95M checkpoint, by its sha256")


def random(out: Path, seed: int, size: str) -> None:
    """Write seeded weights and say what they are."""
    weights = load(f"random:{seed}?size={size}")
    save(weights, out)
    say(_summary(str(out), weights))


def check(spec: str) -> None:
    """Load weights, which checks them, and say what they are."""
    weights = load(spec)
    say(_summary(spec, weights))
    say(f"names, shapes, float16 and finite values are as they should be; origin {weights.origin}, sha256 {weights.digest}")


def info(spec: str | None, flags: Mapping[str, Any], json: bool) -> None:
    """Describe the architecture and, if there are some, the weights."""
    chosen = settings(None, flags)
    weights = load(spec) if spec else None
    a = weights.architecture if weights else MERT_95M
    parameters = sum(_count(shape) for shape in a.tensors.values())
    facts: dict[str, Any] = {
        "model": model_name(a),
        "tensors": len(a.tensors),
        "parameters": parameters,
        "bytes": 2 * parameters,
        "layers": list(chosen.layers),
        "window": chosen.window_samples,
        "frames": a.lengths(chosen.window_samples)[-1],
        "flops": a.flops(chosen.window_samples, max(chosen.layers)),
    }
    if weights:
        facts |= {"weights": weights.digest, "trained": weights.trained, "origin": weights.origin}
        facts["space"] = space(facts["model"], weights, chosen.layers, chosen.window_samples)
    if json:
        say_json(facts)
        return
    say(f"{facts['model']}: {len(a.kernels)} convolutions of {a.channels} channels, {a.layers} layers of {a.hidden}")
    say(f"{facts['tensors']} tensors, {parameters:,} parameters, {facts['bytes'] / 1e6:.0f} MB as float16")
    layers = ", ".join(map(str, chosen.layers))
    say(f"a window of {chosen.window:g} s: {facts['frames']} frames, {facts['flops'] / 1e9:.0f} GFLOP for layer {layers}")
    if weights:
        say(f"weights {weights.digest[:16]}{'' if weights.trained else ' UNTRAINED'}, space {facts['space']}")


def export_coreml(spec: str, out: Path, flags: Mapping[str, Any], target: str) -> None:
    """Write a Core ML package."""
    from mertd.embed.backends.coreml_package import export

    if target not in ("macos14", "macos15"):
        raise UsageError(f"--target is macos14 or macos15, not {target!r}")
    chosen = settings(None, flags)
    with spinner("converting"):
        export(load(spec), out, chosen.layers, chosen.window_samples, cast(Literal["macos14", "macos15"], target))
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    say(f"{out}: {size / 1e6:.0f} MB, layers {', '.join(map(str, chosen.layers))}, windows of {chosen.window:g} s, {target}")


def _summary(name: str, weights: Weights) -> str:
    count = sum(tensor.size for tensor in weights.tensors.values())
    trained = "" if weights.trained else ", UNTRAINED"
    return f"{name}: {len(weights.tensors)} tensors, {count:,} parameters{trained}, digest {weights.digest[:16]}"


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
