"""A PyTorch checkpoint of MERT, `.bin` or `.safetensors`, turned into mertd's weights: float16, weight norm folded in.

Names are those of `transformers.HubertModel`, under an optional prefix and with either of the names that PyTorch has given to a
weight norm. The same checkpoint gives the same bytes, and so the same digest, in whichever form it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mertd.embed import torch_pickle
from mertd.embed.architecture import MERT_95M, POSITIONAL, Architecture
from mertd.embed.torch_pickle import StoredTensor
from mertd.embed.weights import SIZES, Half, Weights, digest, fit
from mertd.errors import WeightsError
from mertd.files import FileError, open_regular

_FOLDED = f"{POSITIONAL}.weight"
_PAIRS = (
    (f"{POSITIONAL}.weight_g", f"{POSITIONAL}.weight_v"),
    (f"{POSITIONAL}.parametrizations.weight.original0", f"{POSITIONAL}.parametrizations.weight.original1"),
)
"""Gain (1, 1, kernel) and direction (out, in, kernel) of the weight norm: before and since PyTorch 2.0."""

_UNUSED = "masked_spec_embed"
"""What stands for masked frames in training; nothing is masked afterwards."""


@dataclass(frozen=True)
class Fingerprint:
    """What tells one file from another: its bytes and their sha256, hexadecimal."""

    size: int
    sha256: str


ORIGINAL = Fingerprint(377_552_987, "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd")
"""`pytorch_model.bin` of m-a-p/MERT-v1-95M."""


def fingerprint(path: Path) -> Fingerprint:
    """Size and sha256 of the file at `path`; compare with `ORIGINAL`. Raises `WeightsError` if it cannot be read."""
    try:
        with open_regular(path) as file:
            return Fingerprint(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except FileError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def import_checkpoint(source: Path) -> Weights:
    """The weights in the PyTorch checkpoint `source`, told by its content, not by its name.

    Raises `WeightsError` for a file that is absent, damaged, unsafe or not MERT's (it lists what is missing, unexpected or
    misshapen), and for a value that float16 cannot hold.
    """
    with _open(source) as (stored, trained):
        found = _unified(stored, source)
        architecture = _architecture(found)
        halves = {name: _half(tensor, name, architecture, source) for name, tensor in found.items()}
    tensors = fit(architecture, halves, str(source))
    return Weights(architecture, tensors, digest(tensors), trained, source.name)


@contextmanager
def _open(source: Path) -> Iterator[tuple[Mapping[str, StoredTensor], bool]]:
    """The tensors in `source`, readable within the block, and whether training made them."""
    try:
        with open_regular(source) as file:
            start = file.read(len(torch_pickle.LEGACY_MAGIC))
    except FileError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise WeightsError(f"cannot read {source}: {error.strerror or error}") from error
    if start.startswith(torch_pickle.ZIP_MAGIC):
        with torch_pickle.open_checkpoint(source) as tensors:
            yield tensors, True
    elif start == torch_pickle.LEGACY_MAGIC:
        raise WeightsError(f"{source} has the format of PyTorch before 1.6; load it in PyTorch and torch.save it again")
    else:
        with _open_safetensors(source) as (tensors, trained):
            yield tensors, trained


@contextmanager
def _open_safetensors(source: Path) -> Iterator[tuple[dict[str, StoredTensor], bool]]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> Half:
        try:
            values: Half = file.get_tensor(name)
        except (SafetensorError, TypeError) as error:  # TypeError: a type that numpy lacks, bfloat16 or float8
            raise WeightsError(f"{source}: cannot read {name}: {error}") from error
        return values

    try:
        file: Any = safe_open(source, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{source} is neither a PyTorch checkpoint nor a readable safetensors file: {error}") from error
    with file:
        tensors = {name: StoredTensor(tuple(file.get_slice(name).get_shape()), partial(read, name)) for name in file.keys()}  # noqa: SIM118
        yield tensors, (file.metadata() or {}).get("trained", "true") == "true"


def _unified(stored: Mapping[str, StoredTensor], source: Path) -> dict[str, StoredTensor]:
    """`stored` without prefix and unused tensors; a weight norm, under either of its names, has become one tensor."""
    found = dict(stored)
    for gain, direction in _PAIRS:
        prefix = next((name.removesuffix(gain) for name in stored if name.endswith(gain)), None)
        if prefix is not None and prefix + direction in stored and prefix + _FOLDED not in stored:
            pair = found.pop(prefix + gain), found.pop(prefix + direction)
            found[prefix + _FOLDED] = StoredTensor(pair[1].shape, partial(_fold, *pair, source))
    prefix = next((name.removesuffix(_FOLDED) for name in found if name.endswith(_FOLDED)), "")
    found.pop(prefix + _UNUSED, None)
    plain = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if len(plain) < len(found):
        raise WeightsError(f"{source}: some tensors are there twice, with and without the prefix {prefix!r}")
    return plain


def _fold(gain: StoredTensor, direction: StoredTensor, source: Path) -> Half:
    """w = v * g / ||v||, the norm over out and in, one per kernel tap (Salimans and Kingma 2016, arXiv 1602.07868); float32.

    The squares of float32 values are exact in float64 and their sum has 29 bits to spare, so that the order in which a machine
    adds them does not show in the result.
    """
    g, v = gain.read(), direction.read()
    if v.ndim != 3 or g.shape != (1, 1, v.shape[-1]):
        raise WeightsError(f"{source}: a weight norm of gain {g.shape} and direction {v.shape} is not per kernel tap")
    norm = np.sqrt(np.square(v.astype(np.float64)).sum((0, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):  # a norm of zero gives values that are not finite, named later
        scale = (g.astype(np.float64) / norm).astype(np.float32)
        folded: Half = v.astype(np.float32) * scale
    return folded


def _architecture(found: Mapping[str, StoredTensor]) -> Architecture:
    name = "feature_projection.projection.weight"
    shape = found[name].shape if name in found else None
    return next((known for known in SIZES.values() if known.tensors[name] == shape), MERT_95M)


def _half(tensor: StoredTensor, name: str, architecture: Architecture, source: Path) -> Half:
    """The tensor rounded to float16; a stand-in that takes no memory if `fit` will refuse its name or shape anyway."""
    wanted, shape = architecture.tensors.get(name), tensor.shape
    if wanted is None or wanted not in (shape, (*shape[:-2], *shape[:-3:-1])):
        return np.broadcast_to(np.float16(0), shape if len(shape) < 4 and 0 not in shape else 0)
    values = tensor.read()
    if values.dtype.kind != "f":
        raise WeightsError(f"{source}: cannot read {name}: {values.dtype} is not float16, float32 or float64")
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if lost := int(np.count_nonzero(np.isinf(half) & np.isfinite(values))):
        largest = float(np.abs(values[np.isfinite(values)]).max())
        raise WeightsError(f"{source}: {lost} values of {name} are too large for float16: up to {largest:.4g}, over 65504")
    return half
