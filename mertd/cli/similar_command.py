"""`mertd similar`: when did it sound like this?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mertd.cli.lazy_group import single_command
from mertd.cli.options import Backend, Json, Layers, MemoryFolder, Weights, Window
from mertd.errors import UsageError
from mertd.memory.time_words import FORMS

commands = single_command()


@commands.command()
def similar(
    sound: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A sound file, or - for a vector on standard input.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Like what was stored last.")] = False,
    when: Annotated[str | None, typer.Option("--at", metavar="TIME", help=f"Like the moment at {FORMS}.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Only moments from then on.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only moments before.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000, help="Number of moments.")] = 10,
    memory: MemoryFolder = None,
    window: Window = None,
    layers: Layers = None,
    backend: Backend = None,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Find the moments in the memory that sound most like this."""
    if (sound is not None) + now + (when is not None) != 1:
        raise UsageError("`mertd similar` needs one of --now, --at TIME, a sound file, or - for a vector on standard input")
    from mertd.cli.similar_moments import Question, show_similar

    model = {"window": window, "layers": layers, "backend": backend, "weights": weights}
    show_similar(Question(sound, when, tuple(stream or ()), since, until, count, model), memory, json)
