"""The numpy backend: the reference that the others are checked against. Exact, slow, always available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mertd.embed.backends.backend import Array, HostMemory
from mertd.embed.backends.numpy_ops import NumpyOps
from mertd.embed.network import hidden_states
from mertd.embed.weights.tensors import Weights


class NumpyBackend(HostMemory):
    """The network in plain numpy, float32."""

    name = "numpy"
    precision = "float32"
    device = "cpu"
    max_batch = 1

    def __init__(self, weights: Weights, layers: Sequence[int]) -> None:
        self._architecture = weights.architecture
        self._layers = layers
        self._ops = NumpyOps(_Widened(weights.tensors))

    def prepare(self, length: int) -> None:
        """Do nothing: numpy has no compiled form."""

    def check_size(self, length: int) -> Mapping[str, str]:
        """Return nothing: there is one formulation."""
        del length
        return {}

    def embed(self, windows: Array) -> Array:
        # Accelerate, numpy's library on a Mac, raises floating-point flags in products that are right (numpy #28687). Results
        # that are not finite are found by those who compare or use them.
        with np.errstate(all="ignore"):
            return hidden_states(self._ops, self._architecture, windows, windows.shape[1], self._layers)


class _Widened(dict[str, Array]):
    """Tensors in float32, each converted when it is first used: those of unused layers never are."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]]) -> None:
        super().__init__()
        self._tensors = tensors

    def __missing__(self, name: str) -> Array:
        return self.setdefault(name, self._tensors[name].astype(np.float32))
