"""`mertd embed`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mertd.capture.address import Address, distinct, parse
from mertd.cli.output import complain, new_console, reader_may_leave
from mertd.cli.settings import settings
from mertd.config import Settings, weights_spec
from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.errors import MertdError, UsageError
from mertd.files import replacing
from mertd.offline import Silent, embed_source
from mertd.text import json_text, printable
from mertd.wire import Embedding, as_json


def embed(files: list[str], out: Path | None, flags: Mapping[str, Any]) -> None:
    """Embed every file; those that cannot be read are reported, and fail the command after the others are done."""
    chosen = settings(None, {**flags, "source": tuple(f"file:{path}" for path in files)})
    if out is not None and out.suffix not in (".npz", ".ndjson"):
        raise UsageError(f"--out {out}: the name ends in .npz or .ndjson")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    addresses = distinct([parse(f"file:{path}") for path in files])
    model = ModelSettings(weights_spec(chosen), chosen.layers, chosen.backend, chosen.window_samples)
    failures: list[str] = []
    console = new_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress, reader_may_leave():
        loading = progress.add_task("loading the model", total=None)
        embedder = Embedder(model)
        progress.remove_task(loading)
        if out is None:
            _stream(addresses, embedder, chosen, progress, failures, sys.stdout)
        elif out.suffix == ".ndjson":
            with out.open("w", encoding="utf-8") as file:
                _stream(addresses, embedder, chosen, progress, failures, file)
        else:
            found = [(a, m) for a in addresses for m in _embed_one(a, embedder, chosen, progress, failures)]
            _write_npz(out, found, embedder, chosen)
    if failures:
        raise MertdError(*failures)


def _stream(
    addresses: list[Address], embedder: Embedder, chosen: Settings, progress: Progress, failures: list[str], file: IO[str]
) -> None:
    for address in addresses:
        for message in _embed_one(address, embedder, chosen, progress, failures):
            file.write(json_text({"file": address.target, **as_json(message)}) + "\n")
            file.flush()


def _embed_one(
    address: Address, embedder: Embedder, chosen: Settings, progress: Progress, failures: list[str]
) -> list[Embedding]:
    """The embeddings of one file."""
    import soundfile

    task = progress.add_task(printable(Path(address.target).name), total=None)
    found: list[Embedding] = []
    silent = 0
    with contextlib.suppress(soundfile.LibsndfileError, OSError):  # told below, in better words
        progress.update(task, total=soundfile.info(address.target).duration)
    try:
        for message in embed_source(
            address,
            embedder,
            chosen.window_samples,
            chosen.hop_samples,
            chosen.gate,
            lambda seconds: progress.update(task, completed=seconds),
        ):
            if isinstance(message, Silent):
                silent += 1
            else:
                found.append(message)
    except MertdError as error:
        failures.append(str(error))
    if silent:
        complain(f"{address.target}: {silent} silent windows below {chosen.gate:g} dBFS are left out")
    progress.remove_task(task)
    return found


def _write_npz(out: Path, found: list[tuple[Address, Embedding]], embedder: Embedder, chosen: Settings) -> None:
    """Arrays of equal first length, one row a window: vector (layers, hidden), source, start and end in samples, rms_dbfs."""
    shape = (len(chosen.layers), embedder.weights.architecture.hidden)
    with replacing(out) as file:
        np.savez(
            file,
            vector=np.array([m.vector for _, m in found], np.float32).reshape(-1, *shape),
            source=np.array([a.target for a, _ in found], str),
            start=np.array([m.window.start for _, m in found], np.int64),
            end=np.array([m.window.end for _, m in found], np.int64),
            rms_dbfs=np.array([m.audio.rms_dbfs for _, m in found]),
            rate=np.array(SAMPLE_RATE),
            layers=np.array(chosen.layers),
            space=np.array(embedder.info.model.space),
            trained=np.array(embedder.weights.trained),
        )
