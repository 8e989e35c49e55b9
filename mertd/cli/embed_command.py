"""`mertd embed`: recordings, folders of them and other sources to vectors, without a daemon."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.embed_progress import EmbedProgress
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Backend, Check, Gate, Hop, Layers, Precision, Threads, Weights, Window
from mertd.cli.output import complain, new_console, reader_may_leave
from mertd.cli.plot_file import check_plot
from mertd.cli.read_settings import settings_from_options
from mertd.cli.stop_signals import StopSignals
from mertd.errors import MertdError, UsageError

if TYPE_CHECKING:
    from mertd.config import Settings
    from mertd.embed.embedder import Embedder
    from mertd.offline.inputs import Input
    from mertd.offline.outputs import Output
    from mertd.plots.pictured_output import PicturedOutput

MAX_PICTURED = 8
"""Inputs that one picture shows."""

MIN_INPUTS_SUMMED_UP = 10
"""Inputs above which a last line says how many of them failed."""

commands = single_command()


@commands.command()
def embed(
    files: Annotated[
        list[str],
        typer.Argument(help="Sound files, folders, FIFOs, - for standard input, or addresses as of `mertd run --source`."),
    ],
    out: Annotated[Path | None, typer.Option(help="X.npz or X.ndjson; without, NDJSON on standard output.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Continue what an interrupted run has left in X.npz.partial, or throw that away.")
    ] = True,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw novelty, self-similarity and path; needs matplotlib.")
    ] = None,
    window: Window = None,
    hop: Hop = None,
    layers: Layers = None,
    backend: Backend = None,
    precision: Precision = None,
    check: Check = None,
    weights: Weights = None,
    threads: Threads = None,
    gate: Gate = None,
) -> None:
    """Embed sound files offline: the same windows and vectors as the daemon's."""
    from mertd.offline.lines import StreamOutput
    from mertd.offline.outputs import SUFFIXES, FileOutput

    options = {"window": window, "hop": hop, "layers": layers, "backend": backend, "weights": weights}
    options |= {"precision": precision, "threads": threads, "gate": gate, "check": check}
    settings = settings_from_options(None, options)
    if out is not None and out.suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: unsupported file type; use .npz or .ndjson")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: directory {out.parent} does not exist; create it first")
    if plot is not None:
        check_plot(plot)
    output = StreamOutput(sys.stdout) if out is None else FileOutput(out, resume)
    code = 0
    try:
        with reader_may_leave():
            code = _embed_all(files, output, settings, plot)
    except MertdError as error:
        if isinstance(output, FileOutput) and output.kept:
            error.args += (output.kept,)
        raise
    finally:
        output.close()
    if code:
        raise typer.Exit(code)


def _embed_all(words: list[str], output: Output, settings: Settings, plot: Path | None) -> int:
    """Embed everything that `words` name, and draw it in `plot`; return the exit code."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from mertd.config import model_settings
    from mertd.embed.embedder import Embedder
    from mertd.offline.batch import Batch
    from mertd.offline.decoders import WindowSettings
    from mertd.offline.inputs import find_inputs
    from mertd.offline.outputs import FileOutput

    inputs = find_inputs(words, complain)
    pictured = _pictured(inputs, output) if plot is not None else None
    console = new_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        loading = progress.add_task("loading the model", total=None)
        embedder = Embedder(model_settings(settings))
        progress.remove_task(loading)
        for line in output.begin_batch(_identity(embedder, settings), inputs):
            complain(line)
        with StopSignals() as stopping:
            windows = WindowSettings(settings.window_samples, settings.hop_samples, settings.gate)
            batch = Batch(embedder, windows, pictured or output, EmbedProgress(progress, inputs), stopping)
            is_whole = batch.run(inputs)
    if not is_whole:
        if isinstance(output, FileOutput):
            complain(f"stopped; {output.kept}")
        return 128 + stopping.received
    for line in output.finish(inputs, not batch.bad):
        complain(line)
    if plot is not None and pictured is not None:
        _draw(inputs, pictured, plot)
    if batch.bad and len(inputs) > MIN_INPUTS_SUMMED_UP:
        complain(f"{batch.bad} of {len(inputs)} inputs failed or are not whole; each is named above")
    return 3 if batch.bad else 0


def _pictured(inputs: Sequence[Input], output: Output) -> PicturedOutput:
    """Return an output that also keeps what a picture needs. Raises `UsageError` for more inputs than one picture shows."""
    from mertd.plots.pictured_output import PicturedOutput

    if len(inputs) > MAX_PICTURED:
        raise UsageError(f"--plot draws {MAX_PICTURED} inputs at most, and these are {len(inputs)}; give fewer")
    return PicturedOutput(output)


def _draw(inputs: Sequence[Input], pictured: PicturedOutput, plot: Path) -> None:
    """Draw what was embedded now."""
    from mertd.plots.evening_picture import draw

    for label in pictured.done_before:
        complain(f"{label}: what an interrupted run has embedded of it is not in {plot}")
    spans = pictured.spans(inputs)
    if spans:
        draw(spans, plot)
    else:
        complain(f"nothing was embedded, so {plot} is not drawn")


def _identity(embedder: Embedder, settings: Settings) -> dict[str, object]:
    """Return what makes the vectors, which the runs that make one result must agree on."""
    return {
        "space": embedder.info.model.space,
        "hop": settings.hop,
        "gate": settings.gate,
        "window": settings.window,
        "layers": list(settings.layers),
        "hidden": embedder.weights.architecture.hidden,
        "trained": embedder.weights.trained,
    }
