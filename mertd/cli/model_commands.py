"""The commands `mertd model …` and their options; the work is in `mertd.cli.model` and `mertd.cli.compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mertd.cli.options import Json, Layers, Window

model = typer.Typer(help="Make, check and describe the model's weights.", no_args_is_help=True, rich_markup_mode=None)


@model.command("pull")
def model_pull(
    out: Annotated[Path | None, typer.Option(help="Where to put the weights; by default where `mertd run` looks.")] = None,
) -> None:
    """Fetch MERT's trained weights from the Hugging Face hub."""
    from mertd.cli.model import pull

    pull(out)


@model.command("import")
def model_import(
    source: Annotated[Path, typer.Argument(help="A PyTorch .bin, or a .safetensors.")],
    out: Annotated[Path | None, typer.Option(help="Where to put the weights; by default where `mertd run` looks.")] = None,
) -> None:
    """Convert a checkpoint to mertd's float16 safetensors."""
    from mertd.cli.model import import_

    import_(source, out)


@model.command("random")
def model_random(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes on every machine.")] = 0,
    size: Annotated[str, typer.Option(help="full, or tiny for tests.")] = "full",
) -> None:
    """Write untrained weights of the true shapes: they exercise everything and mean nothing."""
    from mertd.cli.model import random

    random(out, seed, size)


@model.command("check")
def model_check(weights: Annotated[str, typer.Argument(help="A safetensors file, or random:SEED.")]) -> None:
    """Check names, shapes, types and values of weights."""
    from mertd.cli.model import check

    check(weights)


@model.command("info")
def model_info(
    weights: Annotated[str | None, typer.Argument(help="Weights; without, the architecture alone.")] = None,
    window: Window = None,
    layers: Layers = None,
    json: Json = False,
) -> None:
    """Describe the network: its size, its cost per window, the space its vectors lie in."""
    from mertd.cli.model import info

    info(weights, {"window": window, "layers": layers}, json)


@model.command("export-coreml")
def model_export_coreml(
    weights: Annotated[str, typer.Argument(help="A safetensors file, or random:SEED.")],
    out: Annotated[Path, typer.Option(help="The .mlpackage to write.")],
    layers: Annotated[str, typer.Option(help="Hidden states to give.")] = ",".join(map(str, range(13))),
    window: Window = None,
    target: Annotated[str, typer.Option(help="macos14 or macos15.")] = "macos14",
) -> None:
    """Write a Core ML package."""
    from mertd.cli.model import export_coreml

    export_coreml(weights, out, {"window": window, "layers": layers}, target)


@model.command("compare")
def model_compare(
    a: Annotated[str, typer.Argument(help="A backend, a .mlpackage, or a checkpoint.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    audio: Annotated[Path | None, typer.Option(help="A sound file, of which the first window is used.")] = None,
    weights: Annotated[str, typer.Option(help="For a side that is a backend.")] = "random:0",
    window: Window = None,
    least: Annotated[float, typer.Option(min=0, max=1, help="Exit 1 if a cosine is below this.")] = 0.999,
    json: Json = False,
) -> int:
    """Run two of {backend, package, checkpoint} on the same audio and compare every layer."""
    from mertd.cli.compare import compare

    raise typer.Exit(0 if compare(a, b, audio, weights, {"window": window}, least, json) else 1)
