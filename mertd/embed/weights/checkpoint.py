"""Import of a checkpoint of MERT, `.bin`, `.safetensors`, an index of shards or their folder: converted to float16, with the
weight norm folded in.

Names are those of `transformers.HubertModel`, under an optional prefix, and a weight norm has either of the names that PyTorch
has used for it. The same checkpoint gives the same bytes, and so the same digest, in every format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mertd.embed.weights import naming, shards, torch_archive
from mertd.embed.weights.folder import locate
from mertd.embed.weights.safetensors_file import open_safetensors
from mertd.embed.weights.stored import FLOATS, architecture_of, fit, unreadable
from mertd.embed.weights.tensors import Weights, digest
from mertd.errors import WeightsError
from mertd.files import FileError, open_regular

MAX_NOTED_NAMES = 4
"""Names of left-out tensors that a note lists."""


@dataclass(frozen=True)
class Fingerprint:
    """Identity of a file: its size in bytes and its sha256, hexadecimal."""

    size: int
    sha256: str


ORIGINAL = Fingerprint(377_552_987, "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd")
"""Fingerprint of `pytorch_model.bin` of m-a-p/MERT-v1-95M."""


def fingerprint(path: Path) -> Fingerprint:
    """Return size and sha256 of the file at `path`, to compare with `ORIGINAL`. Raises `WeightsError` if it cannot be read."""
    try:
        with open_regular(path) as file:
            return Fingerprint(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except (OSError, FileError) as error:
        raise unreadable(path, error) from error


def import_checkpoint(source: Path, note: Callable[[str], object] = lambda _: None) -> Weights:
    """Return the weights in the checkpoint `source`, a file or a folder. Its content decides the format, not its name.

    `note` is called with a line for each thing that a user should know about what was done. Raises `WeightsError` for a file
    that is absent, damaged, unsafe or not MERT's (it says what it is instead, or lists what is missing, unexpected or
    misshapen), and for a value that float16 cannot hold.
    """
    path = locate(source)
    with _open(path) as (stored, trained):
        named = naming.unified(stored, path)
        architecture = architecture_of(named.tensors)
        try:
            tensors = fit(architecture, named.tensors, str(path), FLOATS)
        except WeightsError as error:
            raise WeightsError(f"{error}{shards.whole(path)}") from error
    if named.left_out:
        names = ", ".join(named.left_out[:MAX_NOTED_NAMES]) + (", …" if len(named.left_out) > MAX_NOTED_NAMES else "")
        note(f"left out {len(named.left_out)} tensors that are not part of the encoder: {names}")
    if coarse := sum(tensor.dtype == "bfloat16" for tensor in named.tensors.values()):
        note(f"{coarse} tensors are bfloat16, which keeps 8 bits of a number: their vectors differ from the original's")
    return Weights(architecture, tensors, digest(tensors), trained, path.name)


@contextmanager
def _open(source: Path) -> Iterator[shards.Opened]:
    """Yield the tensors in `source`, readable within the block, and whether they are trained."""
    start = _start(source)
    if start.startswith(b"{") and b"\0" not in start and (places := shards.read_index(source)) is not None:
        with shards.open_shards(source, places, _open_file) as opened:
            yield opened
    else:
        with _open_file(source) as opened:
            yield opened


@contextmanager
def _open_file(source: Path) -> Iterator[shards.Opened]:
    """Yield the tensors in one file."""
    start = _start(source)
    if start.startswith(torch_archive.ZIP_MAGIC):
        with torch_archive.open_checkpoint(source) as tensors:
            yield tensors, True
    elif start == torch_archive.LEGACY_MAGIC:
        raise WeightsError(f"{source} has the format of PyTorch before 1.6; load it in PyTorch and torch.save it again")
    else:
        with open_safetensors(source, "is neither a PyTorch checkpoint nor a readable safetensors file") as content:
            yield content.tensors, content.metadata.get("trained", "true") == "true"


def _start(source: Path) -> bytes:
    try:
        with open_regular(source) as file:
            return file.read(len(torch_archive.LEGACY_MAGIC))
    except (OSError, FileError) as error:
        raise unreadable(source, error) from error
