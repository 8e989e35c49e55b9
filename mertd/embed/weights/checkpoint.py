"""Import of a PyTorch checkpoint of MERT, `.bin` or `.safetensors`: converted to float16, with the weight norm folded in.

Names are those of `transformers.HubertModel`, under an optional prefix, and a weight norm has either of the names that PyTorch
has used for it. The same checkpoint gives the same bytes, and so the same digest, in every format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import POSITIONAL
from mertd.embed.weights import torch_archive
from mertd.embed.weights.safetensors_file import open_safetensors
from mertd.embed.weights.stored import FLOATS, StoredTensor, architecture_of, fit, show, unreadable
from mertd.embed.weights.tensors import Weights, digest
from mertd.errors import WeightsError
from mertd.files import FileError, open_regular

_FOLDED = f"{POSITIONAL}.weight"
"""Name of the positional convolution's weights without a weight norm."""

_PAIRS = (
    (f"{POSITIONAL}.weight_g", f"{POSITIONAL}.weight_v"),
    (f"{POSITIONAL}.parametrizations.weight.original0", f"{POSITIONAL}.parametrizations.weight.original1"),
)
"""Names of the weight norm's gain (1, 1, kernel) and direction (out, in, kernel): before PyTorch 2.0, and since."""

_UNUSED = "masked_spec_embed"
"""A tensor that replaces masked frames in training; nothing is masked afterwards."""


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


def import_checkpoint(source: Path) -> Weights:
    """Return the weights in the PyTorch checkpoint `source`. Its content decides the format, not its name.

    Raises `WeightsError` for a file that is absent, damaged, unsafe or not MERT's (it lists what is missing, unexpected or
    misshapen), and for a value that float16 cannot hold.
    """
    with _open(source) as (stored, trained):
        found = _unified(stored, source)
        architecture = architecture_of(found)
        tensors = fit(architecture, found, str(source), FLOATS)
    return Weights(architecture, tensors, digest(tensors), trained, source.name)


@contextmanager
def _open(source: Path) -> Iterator[tuple[Mapping[str, StoredTensor], bool]]:
    """Yield the tensors in `source`, readable within the block, and whether they are trained."""
    try:
        with open_regular(source) as file:
            start = file.read(len(torch_archive.LEGACY_MAGIC))
    except (OSError, FileError) as error:
        raise unreadable(source, error) from error
    if start.startswith(torch_archive.ZIP_MAGIC):
        with torch_archive.open_checkpoint(source) as tensors:
            yield tensors, True
    elif start == torch_archive.LEGACY_MAGIC:
        raise WeightsError(f"{source} has the format of PyTorch before 1.6; load it in PyTorch and torch.save it again")
    else:
        with open_safetensors(source, "is neither a PyTorch checkpoint nor a readable safetensors file") as content:
            yield content.tensors, content.metadata.get("trained", "true") == "true"


def _unified(stored: Mapping[str, StoredTensor], source: Path) -> dict[str, StoredTensor]:
    """Return `stored` without the prefix and the unused tensor, and with one tensor in place of a weight norm's two."""
    found = dict(stored)
    for gain, direction in _PAIRS:
        prefix = next((name.removesuffix(gain) for name in stored if name.endswith(gain)), None)
        if prefix is not None and prefix + direction in stored and prefix + _FOLDED not in stored:
            found[prefix + _FOLDED] = _folded(found.pop(prefix + gain), found.pop(prefix + direction), source)
    prefix = next((name.removesuffix(_FOLDED) for name in found if name.endswith(_FOLDED)), "")
    found.pop(prefix + _UNUSED, None)
    plain = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if len(plain) < len(found):
        raise WeightsError(f"{source}: some tensors are there twice, with and without the prefix {show(prefix)!r}")
    return plain


def _folded(gain: StoredTensor, direction: StoredTensor, source: Path) -> StoredTensor:
    """Return the product of a weight norm's two tensors, computed when it is read."""
    if len(direction.shape) != 3 or gain.shape != (1, 1, direction.shape[-1]):
        shapes = f"gain {show(str(gain.shape))} and direction {show(str(direction.shape))}"
        raise WeightsError(f"{source}: a weight norm of {shapes} is not per kernel tap")
    odd = next((one.dtype for one in (gain, direction) if one.dtype not in FLOATS), None)
    size = gain.storage_bytes + direction.storage_bytes
    storage = f"{gain.storage}, {direction.storage}"
    return StoredTensor(direction.shape, odd or "float32", partial(_fold, gain, direction), storage, size)


def _fold(gain: StoredTensor, direction: StoredTensor) -> NDArray[Any]:
    """Return w = v * g / ||v||, with the norm over out and in, one per kernel tap (Salimans and Kingma 2016, arXiv 1602.07868).

    The squares of float32 values are exact in float64 and their sum has 29 bits to spare, so the order in which a machine adds
    them does not change the result, which is float32.
    """
    g, v = gain.read(), direction.read()
    norm = np.sqrt(np.square(v.astype(np.float64)).sum((0, 1)))
    with np.errstate(all="ignore"):  # a norm of zero, or values that are not finite, give values that are refused by name
        scale = (g.astype(np.float64) / norm).astype(np.float32)
        return np.asarray(v.astype(np.float32) * scale)
