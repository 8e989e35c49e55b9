"""Weights by their name on the command line, `PATH` or `random:SEED`; and a file of weights, read and written."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from mertd.embed.weights.naming import unified
from mertd.embed.weights.safetensors_file import open_safetensors
from mertd.embed.weights.seeded import random_tensors, with_outliers
from mertd.embed.weights.shards import whole
from mertd.embed.weights.stored import FLOATS, architecture_of, fit, not_there, show
from mertd.embed.weights.tensors import SIZES, Weights, digest
from mertd.errors import UsageError, WeightsError
from mertd.files import replacing
from mertd.user_folders import expand_home

RANDOM = "random:"
"""What a specification of weights made from a seed begins with."""

MAX_SEED_DIGITS = 1_000
"""Digits of a seed."""


def load(spec: str) -> Weights:
    """Return the weights named by `PATH` (safetensors) or `random:SEED[?size=tiny&outliers=1]`.

    Raises `UsageError` for a malformed `random:` and `WeightsError` for a file that is absent, unreadable or not MERT's.
    """
    if spec.startswith(RANDOM):
        return _random(spec)
    return from_file(expand_home(spec))


def _random(spec: str) -> Weights:
    seed, _, query = spec.removeprefix(RANDOM).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    size, outliers = options.pop("size", "full"), options.pop("outliers", "0")
    if not (seed.isascii() and seed.isdigit() and len(seed) <= MAX_SEED_DIGITS):
        raise UsageError(f"{show(spec)!r}: the seed must be a whole number, as in random:0")
    if size not in SIZES:
        raise UsageError(f"{spec!r}: size is one of {', '.join(SIZES)}")
    if outliers not in ("0", "1"):
        raise UsageError(f"{spec!r}: outliers is 0 or 1")
    if options:
        raise UsageError(f"{spec!r}: unknown option {next(iter(options))!r}; known are size and outliers")
    architecture = SIZES[size]
    tensors = dict(random_tensors(architecture, int(seed)))
    if outliers == "1":
        tensors = with_outliers(architecture, tensors, int(seed))
    return Weights(architecture, tensors, digest(tensors), trained=False, origin=spec)


def from_file(path: Path) -> Weights:
    """Read a safetensors file of MERT's tensors in float16.

    A prefix of all names and the heads of training programs are dropped, and a convolution stored as (out, in, kernel) is
    turned. Raises `WeightsError`, which says what the file is instead, or names what is missing, unexpected, misshapen, of
    another dtype or not finite.
    """
    if path.is_dir():
        raise WeightsError(f"no weights file at {path}: it is a directory; `mertd model import {path}` converts what is in it")
    if not path.exists() and not path.is_symlink():
        more = not_there(path) or "; to try mertd without trained weights: --weights random:0"
        raise WeightsError(f"no weights file at {path}{more}")
    with open_safetensors(path) as file:
        found = unified(file.tensors, path).tensors
        architecture = architecture_of(found)
        dtypes = {tensor.dtype for tensor in found.values()}
        if found.keys() == architecture.tensors.keys() and len(dtypes) == 1 and dtypes < set(FLOATS) - {"float16"}:
            raise WeightsError(f"{path} holds {dtypes.pop()}, not float16; `mertd model import {path}` converts it")
        try:
            tensors = fit(architecture, found, str(path))
        except WeightsError as error:
            raise WeightsError(f"{error}{whole(path)}") from error
    return Weights(architecture, tensors, digest(tensors), file.metadata.get("trained", "true") == "true", str(path))


def save(weights: Weights, path: Path) -> None:
    """Write `weights` as safetensors, in one step. Raises `WeightsError` if they cannot be written."""
    from safetensors.numpy import save as serialised

    # One entry alone: safetensors writes several in an order of its own, and equal weights are to be equal bytes.
    metadata = {"trained": str(weights.trained).lower()}
    try:
        with replacing(path, mode=0o644) as file:  # weights are no secret
            file.write(serialised({name: np.ascontiguousarray(t) for name, t in weights.tensors.items()}, metadata))
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}") from error
