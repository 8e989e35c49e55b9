"""The file of weights in a folder: a clone or snapshot of a repository, or the hub's cache.

Rules of this file: only names are read, and the small JSON files that say what the weights are for; folders are not searched
deeper than one level, nor beyond `MAX_ENTRIES`.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from mertd.defaults import SAMPLE_RATE
from mertd.embed.weights.stored import show, unreadable
from mertd.errors import WeightsError
from mertd.files import FileError, read_limited

MAX_ENTRIES = 2_000
"""Names in a folder that are looked at."""

MAX_CONFIG_BYTES = 1 << 16
"""Size of a configuration that is read."""

MAX_POINTER_BYTES = 1_024
"""Size of a file that may only point at the real one, as in a clone without its large files."""

USUAL_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "MERT-v1-95M.safetensors",
)
"""Names of weights, best first: what transformers writes, and the converted file."""

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""Of files that may hold weights under any other name."""

NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "random_states", "fairseq")
"""Parts of names of what lies beside weights with the same suffix."""

PARTIAL = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp")
"""Suffixes of downloads that have not ended."""


def locate(source: Path) -> Path:
    """Return the file of weights in the folder `source`; `source` itself if it is no folder.

    Raises `WeightsError` if there is none or several, and for weights that their configuration says are for other audio.
    """
    if not source.is_dir():
        return source
    folder = _snapshot(source)
    names = _names(folder)
    found = _weights(folder, names)
    if not found:
        found = [f"{name}/{below}" for name in names if _may_hold(folder / name) for below in _weights_below(folder / name)]
    if len(found) != 1:
        raise WeightsError(_several(folder, found) if found else _none(folder, names))
    path = folder / found[0]
    _check_rate(path.parent)
    return path


def _snapshot(folder: Path) -> Path:
    """Return the snapshot in a folder of the hub's cache, `models--OWNER--NAME`; any other folder as it is."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    try:
        revision = read_limited(folder / "refs" / "main", MAX_CONFIG_BYTES).decode("ascii").strip()
    except (OSError, FileError, ValueError):
        revision = ""
    if revision and Path(revision).name == revision and (snapshots / revision).is_dir():
        return snapshots / revision
    found = _names(snapshots)
    if len(found) == 1:
        return snapshots / found[0]
    raise WeightsError(f"{folder} has {len(found)} snapshots and none is the current one; name one of those in {snapshots}")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in itertools.islice(folder.iterdir(), MAX_ENTRIES))
    except OSError as error:
        raise unreadable(folder, error) from error


def _candidates(names: list[str]) -> list[str]:
    """Return the names that may be weights: indexes of shards alone if there are any, else single files."""
    lower = {name: name.lower() for name in names if not name.startswith(".")}
    indexes = [name for name, low in lower.items() if low.endswith((".safetensors.index.json", ".bin.index.json"))]
    files = [name for name, low in lower.items() if low.endswith(SUFFIXES) and not any(part in low for part in NOT_WEIGHTS)]
    return indexes or [name for name in files if name.lower().endswith(".safetensors")] or files


def _weights(folder: Path, names: list[str]) -> list[str]:
    """Return the usual name of weights, or else all names that may be theirs. A pointer makes way for a whole file."""
    usual = [name for name in USUAL_NAMES if name in names]
    return [name for name in usual if _size(folder / name) > MAX_POINTER_BYTES][:1] or usual[:1] or _candidates(names)


def _weights_below(folder: Path) -> list[str]:
    return _weights(folder, _names(folder))


def _may_hold(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and folder.suffix != ".mlpackage"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _several(folder: Path, found: list[str]) -> str:
    return f"{folder} holds {len(found)} files of weights; name one of them: {', '.join(map(show, found[:5]))}"


def _none(folder: Path, names: list[str]) -> str:
    """Say that a folder holds no weights, and what it seems to be."""
    partial = [name for name in names if name.lower().endswith(PARTIAL)]
    blobs = folder.parent.parent / "blobs"
    if folder.parent.name == "snapshots" and blobs.is_dir():
        partial += [name for name in _names(blobs) if name.endswith(PARTIAL)]
    head = f"cannot read {folder}: Is a directory, and there is no file of weights in it"
    if partial:
        return f"{head}, but a download that has not ended ({show(partial[0])}); run it again, or `mertd model pull`"
    if folder.suffix == ".mlpackage" or "Manifest.json" in names:
        return f"{head}: it is a Core ML package; import the checkpoint that it was made from"
    if any("fairseq" in name for name in names):
        return f"{head}, only a checkpoint of fairseq; import pytorch_model.bin of the same model"
    if "config.json" in names:
        return f"{head}, only its configuration; the download left the weights out, or `mertd model pull` fetches them"
    return f"{head}; name the file, or `mertd model pull` fetches the weights"


def _check_rate(folder: Path) -> None:
    """Raise `WeightsError` if the configuration beside the weights says that they hear another sample rate than MERT's."""
    try:
        found = json.loads(read_limited(folder / "preprocessor_config.json", MAX_CONFIG_BYTES))
    except (OSError, FileError, ValueError, RecursionError):
        return  # it says nothing: the tensors are judged in any case
    rate = found.get("sampling_rate") if isinstance(found, dict) else None
    if isinstance(rate, int) and rate != SAMPLE_RATE:
        raise WeightsError(
            f"{folder} holds a network for audio of {rate:,} Hz; MERT-v1-95M hears {SAMPLE_RATE:,} Hz: "
            "import that one, or `mertd model pull` fetches it"
        )
