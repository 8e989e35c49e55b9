"""What every backend is: a way to run the network."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Samples or states."""


class Backend(Protocol):
    """One way to run the network. The form compiled for one window length is kept until another length is asked for."""

    name: str
    precision: str
    device: str
    max_batch: int  # windows in the largest useful batch

    def prepare(self, length: int) -> None:
        """Compile now for windows of `length` samples, so that the first window does not wait for it."""

    def embed(self, windows: Array) -> Array:
        """Return the pooled hidden states of normalised windows: (batch, samples) -> (batch, layers, hidden)."""
