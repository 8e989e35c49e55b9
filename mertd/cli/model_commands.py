"""`mertd model`: weights fetched, made, checked and described; the network exported and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from mertd.cli.evaluation_output import evaluate
from mertd.cli.lazy_group import command_group
from mertd.cli.options import Json, Layers, Window
from mertd.cli.output import say, say_json, spinner
from mertd.cli.read_settings import settings_from_options
from mertd.errors import UsageError, WeightsError, did_you_mean

if TYPE_CHECKING:
    from mertd.embed.weights.tensors import Weights

Out = Annotated[Path | None, typer.Option(help="Where to put the weights; by default where `mertd run` looks.")]
COREML_TARGETS = ("macos14", "macos15")
COREML_PROCESSORS = ("gpu", "neural-engine")
COMPUTE_UNITS = ("cpu_and_gpu", "cpu_and_ne", "cpu_only", "all")

commands = command_group("model")
commands.command()(evaluate)


@commands.command()
def pull(out: Out = None) -> None:
    """Fetch MERT's trained weights from the Hugging Face hub."""
    from mertd.config import default_weights
    from mertd.embed.weights import hub
    from mertd.embed.weights.tensors import LICENCE

    say(f"MERT's weights are {LICENCE}: credit Li et al. 2024 (arXiv 2306.00107), no commercial use.")
    pulled = hub.pull(out or default_weights())
    for reason in pulled.passed_over:
        say(f"passed over: {reason}")
    say(f"{pulled.path}: from {pulled.file}, digest {pulled.digest[:16]}")


@commands.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="A .safetensors, a PyTorch .bin, an index of shards, or a folder with one of them.")
    ],
    out: Out = None,
) -> None:
    """Convert a checkpoint to mertd's float16 safetensors."""
    from mertd.config import default_weights
    from mertd.embed.weights.checkpoint import ORIGINAL, fingerprint, import_checkpoint
    from mertd.embed.weights.folder import locate
    from mertd.embed.weights.loading import save
    from mertd.user_folders import expand_home

    destination = out or default_weights()
    notes: list[str] = []
    with spinner(f"reading {source}"):
        found = locate(expand_home(source))
        weights = import_checkpoint(found, notes.append)
        is_original = fingerprint(found) == ORIGINAL
        _make_parent(destination)
        save(weights, destination)
    for note in notes:
        say(f"{found.name}: {note}")
    say(_summary(str(destination), weights))
    say(f"{'' if is_original else 'not '}the original MERT-v1-95M checkpoint{'' if is_original else ', by its sha256'}")


@commands.command()
def random(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes on every machine.")] = 0,
    size: Annotated[str, typer.Option(help="full, or tiny for tests.")] = "full",
) -> None:
    """Write untrained weights of the true shapes: they exercise everything and mean nothing."""
    from mertd.embed.weights.loading import load, save

    weights = load(f"random:{seed}?size={size}")
    save(weights, out)
    say(_summary(str(out), weights))


@commands.command()
def check(weights: Annotated[str, typer.Argument(help="A safetensors file, or random:SEED.")]) -> None:
    """Check names, shapes, types and values of weights."""
    from mertd.embed.weights.loading import load

    loaded = load(weights)
    say(_summary(weights, loaded))
    say(f"names, shapes, float16 and finite values are as they should be; origin {loaded.origin}, sha256 {loaded.digest}")


@commands.command()
def info(
    weights: Annotated[str | None, typer.Argument(help="Weights; without, only the architecture is described.")] = None,
    window: Window = None,
    layers: Layers = None,
    json: Json = False,
) -> None:
    """Describe the network: its size, its cost per window, the space its vectors lie in."""
    from mertd.embed.architecture import MERT_95M
    from mertd.embed.embedder import model_name, space
    from mertd.embed.weights.loading import load

    settings = settings_from_options(None, {"window": window, "layers": layers})
    loaded = load(weights) if weights else None
    architecture = loaded.architecture if loaded else MERT_95M
    parameters = sum(math.prod(shape) for shape in architecture.tensors.values())
    about: dict[str, Any] = {
        "model": model_name(architecture),
        "tensors": len(architecture.tensors),
        "parameters": parameters,
        "bytes": 2 * parameters,
        "layers": list(settings.layers),
        "window": settings.window_samples,
        "frames": architecture.lengths(settings.window_samples)[-1],
        "flops": architecture.flops(settings.window_samples, max(settings.layers)),
    }
    if loaded:
        about |= {"weights": loaded.digest, "trained": loaded.trained, "origin": loaded.origin}
        about["space"] = space(about["model"], loaded, settings.layers, settings.window_samples)
    if json:
        say_json(about)
        return
    sizes = f"{len(architecture.kernels)} convolutions of {architecture.channels} channels"
    say(f"{about['model']}: {sizes}, {architecture.layers} layers of {architecture.hidden}")
    say(f"{about['tensors']} tensors, {parameters:,} parameters, {about['bytes'] / 1e6:.0f} MB as float16")
    cost = f"{about['frames']} frames, {about['flops'] / 1e9:.0f} GFLOP"
    say(f"a window of {settings.window:g} s: {cost} for layer {', '.join(map(str, settings.layers))}")
    if loaded:
        say(f"weights {loaded.digest[:16]}{'' if loaded.trained else ' UNTRAINED'}, space {about['space']}")


@commands.command()
def export_coreml(
    weights: Annotated[str, typer.Argument(help="A safetensors file, or random:SEED.")],
    out: Annotated[Path, typer.Option(help="The .mlpackage to write.")],
    layers: Annotated[str, typer.Option(help="Hidden states in its output.")] = ",".join(map(str, range(13))),
    window: Window = None,
    target: Annotated[str, typer.Option(help="macos14 or macos15.")] = "macos14",
    processor: Annotated[str, typer.Option(help="Whose shapes it has: gpu or neural-engine; it runs on any.")] = "gpu",
) -> None:
    """Write a Core ML package."""
    from mertd.embed.backends.coreml_package import export
    from mertd.embed.weights.loading import load

    chosen_target = cast(Literal["macos14", "macos15"], _one_of("--target", target, COREML_TARGETS))
    chosen_processor = cast(Literal["gpu", "neural-engine"], _one_of("--processor", processor, COREML_PROCESSORS))
    settings = settings_from_options(None, {"window": window, "layers": layers})
    with spinner("converting"):
        export(load(weights), out, settings.layers, settings.window_samples, chosen_target, chosen_processor)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    names = ", ".join(map(str, settings.layers))
    say(f"{out}: {size / 1e6:.0f} MB, layers {names}, windows of {settings.window:g} s, {target}, {processor}")


@commands.command()
def compare(
    a: Annotated[str, typer.Argument(help="A backend, a .mlpackage, or a checkpoint.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    audio: Annotated[Path | None, typer.Option(help="A sound file, of which the first window is used.")] = None,
    weights: Annotated[str, typer.Option(help="For a side that is a backend.")] = "random:0",
    units: Annotated[
        str, typer.Option(help=f"Processors that a .mlpackage may use: {', '.join(COMPUTE_UNITS[:-1])} or {COMPUTE_UNITS[-1]}.")
    ] = COMPUTE_UNITS[0],
    window: Window = None,
    least: Annotated[float, typer.Option(min=0, max=1, help="Exit with 3 if a cosine is below this.")] = 0.999,
    runs: Annotated[int, typer.Option(min=0, help="Number of times that each is then timed, in turns.")] = 0,
    json: Json = False,
) -> None:
    """Run two of {backend, package, checkpoint} on the same audio and compare every layer."""
    from mertd.cli.model_comparison import compare_models

    settings = settings_from_options(None, {"window": window})
    chosen_units = _one_of("--units", units, COMPUTE_UNITS)
    raise typer.Exit(0 if compare_models(a, b, audio, weights, chosen_units, settings, least, runs, json) else 3)


def _one_of(option: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        what = option.strip("-")
        raise UsageError(f"{option} {value!r}: unknown {what}; choose one of {', '.join(known)}{did_you_mean(value, known)}")
    return value


def _make_parent(destination: Path) -> None:
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"cannot write {destination}: {error.strerror or error}") from error


def _summary(name: str, weights: Weights) -> str:
    count = sum(tensor.size for tensor in weights.tensors.values())
    untrained = "" if weights.trained else ", UNTRAINED"
    return f"{name}: {len(weights.tensors)} tensors, {count:,} parameters{untrained}, digest {weights.digest[:16]}"
