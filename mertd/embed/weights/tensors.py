"""MERT's tensors in memory: float16, under the names and shapes of `Architecture.tensors`, identified by a digest.

Every backend starts from these: two backends given the same weights differ in arithmetic only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import MERT_95M, TINY, Architecture

Half = NDArray[np.float16]
"""The values of a tensor."""

LICENCE = "CC-BY-NC-4.0"
"""Licence of the trained weights, whatever their source: attribution, and no commercial use."""

SIZES = {"full": MERT_95M, "tiny": TINY}
"""Size of random weights -> architecture."""


@dataclass(frozen=True)
class Weights:
    """Tensors ready for a backend. `digest`: sha256, hexadecimal, over names, shapes and values."""

    architecture: Architecture
    tensors: Mapping[str, Half]
    digest: str
    trained: bool
    origin: str


def digest(tensors: Mapping[str, Half]) -> str:
    """Return the sha256 over every tensor's name, shape and little-endian float16 values, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.shape}\n".encode())
        total.update(np.ascontiguousarray(tensor, "<f2").data)
    return total.hexdigest()
