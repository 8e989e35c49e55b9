"""`mertd embed`: sound files to vectors, without a daemon."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mertd.capture.address import Address, distinct, parse
from mertd.capture.source import EndReport
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Backend, Gate, Hop, Layers, Threads, Weights, Window
from mertd.cli.output import complain, new_console, reader_may_leave
from mertd.cli.read_settings import settings_from_options
from mertd.config import Settings, weights_spec
from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.errors import MertdError, UsageError
from mertd.files import replacing
from mertd.offline import SilentWindow, embed_source
from mertd.text import json_text, printable
from mertd.wire import Embedding, as_json

commands = single_command()


@commands.command()
def embed(
    files: Annotated[list[str], typer.Argument(help="Sound files.")],
    out: Annotated[Path | None, typer.Option(help="X.npz or X.ndjson; without, NDJSON on standard output.")] = None,
    window: Window = None,
    hop: Hop = None,
    layers: Layers = None,
    backend: Backend = None,
    weights: Weights = None,
    threads: Threads = None,
    gate: Gate = None,
) -> None:
    """Embed sound files offline: the same windows and vectors as the daemon's."""
    options = {name: value for name, value in locals().items() if name not in ("files", "out")}
    settings = settings_from_options(None, {**options, "source": tuple(f"file:{path}" for path in files)})
    if out is not None and out.suffix not in (".npz", ".ndjson"):
        raise UsageError(f"--out {out}: unsupported file type; use .npz or .ndjson")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: directory {out.parent} does not exist; create it first")
    embed_files(distinct([parse(f"file:{path}") for path in files]), out, settings)


def embed_files(addresses: list[Address], out: Path | None, settings: Settings) -> None:
    """Embed every file. Raises `MertdError` after the last one if some could not be read, with a line for each."""
    model = ModelSettings(weights_spec(settings), settings.layers, settings.backend, settings.window_samples, settings.threads)
    failures: list[str] = []
    missing: dict[str, EndReport] = {}
    console = new_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress, reader_may_leave():
        loading = progress.add_task("loading the model", total=None)
        embedder = Embedder(model)
        progress.remove_task(loading)
        if out is None:
            _stream(addresses, embedder, settings, progress, failures, missing, sys.stdout)
        elif out.suffix == ".ndjson":
            with out.open("w", encoding="utf-8") as file:
                _stream(addresses, embedder, settings, progress, failures, missing, file)
        else:
            found = [(a, m) for a in addresses for m in _embed_one(a, embedder, settings, progress, failures, missing)]
            _write_npz(out, found, missing, embedder, settings)
    if failures:
        raise MertdError(*failures)


def _stream(
    addresses: list[Address],
    embedder: Embedder,
    settings: Settings,
    progress: Progress,
    failures: list[str],
    missing: dict[str, EndReport],
    file: IO[str],
) -> None:
    for address in addresses:
        for message in _embed_one(address, embedder, settings, progress, failures, missing):
            file.write(json_text({"file": address.target, **as_json(message)}) + "\n")
            file.flush()
        if report := missing.get(address.target):
            line = {"file": address.target, "missing_s": report.missing_s, "reason": report.reason}
            file.write(json_text(line) + "\n")
            file.flush()


def _embed_one(
    address: Address,
    embedder: Embedder,
    settings: Settings,
    progress: Progress,
    failures: list[str],
    missing: dict[str, EndReport],
) -> list[Embedding]:
    """Return the embeddings of one file. Why it could not be read is added to `failures`, what is missing to `missing`."""
    import soundfile

    task = progress.add_task(printable(Path(address.target).name), total=None)
    found: list[Embedding] = []
    silent = 0
    with contextlib.suppress(soundfile.LibsndfileError, OSError):  # reported below, in better words
        progress.update(task, total=soundfile.info(address.target).duration)
    try:
        for message in embed_source(
            address,
            embedder,
            settings.window_samples,
            settings.hop_samples,
            settings.gate,
            lambda seconds: progress.update(task, completed=seconds),
        ):
            if isinstance(message, SilentWindow):
                silent += 1
            elif isinstance(message, EndReport):
                for hint in message.hints:
                    complain(f"{address.target}: {hint}")
                if message.reason:
                    failures.append(f"{address.target}: {message}")
                    missing[address.target] = message
            else:
                found.append(message)
    except MertdError as error:
        failures += map(str, error.args)
    if silent:
        complain(f"{address.target}: {silent} silent windows below {settings.gate:g} dBFS are left out")
    progress.remove_task(task)
    return found


def _write_npz(
    out: Path,
    found: list[tuple[Address, Embedding]],
    missing: dict[str, EndReport],
    embedder: Embedder,
    settings: Settings,
) -> None:
    """Write arrays with one row a window: vector (layers, hidden), source, start and end in samples, rms_dbfs.

    `missing_source` and `missing_s` have one row for each file of which something is missing.
    """
    shape = (len(settings.layers), embedder.weights.architecture.hidden)
    with replacing(out) as file:
        np.savez(
            file,
            vector=np.array([m.vector for _, m in found], np.float32).reshape(-1, *shape),
            source=np.array([a.target for a, _ in found], str),
            start=np.array([m.window.start for _, m in found], np.int64),
            end=np.array([m.window.end for _, m in found], np.int64),
            rms_dbfs=np.array([m.audio.rms_dbfs for _, m in found]),
            missing_source=np.array(list(missing), str),
            missing_s=np.array([report.missing_s for report in missing.values()], np.float64),
            rate=np.array(SAMPLE_RATE),
            layers=np.array(settings.layers),
            space=np.array(embedder.info.model.space),
            trained=np.array(embedder.weights.trained),
        )
