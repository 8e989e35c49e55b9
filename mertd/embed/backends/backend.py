"""What every backend is: a way to run the network."""

from __future__ import annotations

from collections.abc import Mapping
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

    def check_size(self, length: int) -> Mapping[str, str]:
        """Compare formulations of the network that this backend could use, with windows of `length` samples. Return those that
        it uses no longer -> why; from then on it uses the one that is safe. Raises `BackendError` if none is.
        """

    def room(self, count: int, length: int) -> Array:
        """Return memory for a batch of `count` windows, (count, length), that `embed` reads fastest. It may be that of the
        batch before.
        """

    def embed(self, windows: Array) -> Array:
        """Return the pooled hidden states of normalised windows: (batch, samples) -> (batch, layers, hidden)."""


class HostMemory:
    """The room of a backend that computes on the CPU."""

    def room(self, count: int, length: int) -> Array:
        return np.empty((count, length), np.float32)
