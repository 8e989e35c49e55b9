"""Golden values: hidden states that PyTorch computed, and the clips it computed them of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.embed.audio import normalise
from signals import chord_progression

WEIGHTS = "random:0"
CLIPS = (1, 5)
"""Lengths in seconds: the short one is for MLX, whose CPU build is slow."""


def clip(seconds: int) -> NDArray[np.float32]:
    """A normalised window, (samples,)."""
    return normalise(chord_progression(seconds))


def golden(seconds: int) -> NDArray[np.float32]:
    """PyTorch's mean-pooled hidden states of that clip, (13, 768)."""
    with np.load(Path(__file__).parent / "embed" / "golden.npz") as file:
        return np.asarray(file[f"s{seconds}"])
