"""The network's operations in numpy, float32: the readable reference, with plain loops where they are clearer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture
from mertd.embed.network import first_convolution

Array = NDArray[np.float32]
"""A tensor."""


class NumpyOps:
    """Sequences and feature maps are both (batch, time, features) float32 arrays."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def parameter(self, name: str, shape: tuple[int, ...]) -> Array:
        return self._tensors[name].reshape(shape)

    def frames(self, samples: Array, length: int, hop: int) -> Array:
        return sliding_window_view(samples, length, axis=1)[:, ::hop]

    def add(self, a: Array, b: float) -> Array:
        return np.add(a, b, dtype=np.float32)

    def subtract(self, a: Array, b: Array) -> Array:
        return a - b

    def multiply(self, a: Array, b: Array | float) -> Array:
        return np.multiply(a, b, dtype=np.float32)

    def rsqrt(self, a: Array) -> Array:
        return np.divide(1, np.sqrt(a), dtype=np.float32)

    def relu(self, a: Array) -> Array:
        return np.maximum(a, 0, dtype=np.float32)

    def matmul(self, a: Array, b: Array) -> Array:
        return np.asarray(a @ b)

    def transpose(self, a: Array) -> Array:
        return a.swapaxes(-1, -2)

    def mean(self, a: Array, axis: int) -> Array:
        return np.asarray(a.mean(axis=axis, keepdims=True, dtype=np.float64), np.float32)

    def sum(self, a: Array, axis: int) -> Array:
        return np.asarray(a.sum(axis=axis, keepdims=True), np.float32)

    def first_convolution(self, architecture: Architecture, samples: Array, length: int) -> Array:
        return first_convolution(self, architecture, samples, length)

    def first_map(self, frames: Array, weight: Array, bias: Array) -> Array:
        y: Array = frames @ weight.swapaxes(-1, -2)
        return y + bias

    def conv(self, x: Array, name: str, stride: int) -> Array:
        weight = self._tensors[f"{name}.weight"]
        kernel = weight.shape[1]
        length = (x.shape[1] - kernel) // stride + 1
        y = np.zeros((x.shape[0], length, weight.shape[0]), np.float32)
        for tap in range(kernel):
            y += x[:, tap : tap + stride * (length - 1) + 1 : stride] @ weight[:, tap].T
        return y

    def sequence(self, x: Array) -> Array:
        return x

    def positional(self, x: Array, name: str, groups: int) -> Array:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        out, kernel, size = weight.shape
        padded = np.pad(x, ((0, 0), (kernel // 2, kernel // 2 - 1), (0, 0)))
        y = np.empty_like(x)
        for group in range(groups):
            into = slice(group * size, (group + 1) * size)
            outof = slice(group * out // groups, (group + 1) * out // groups)
            # (batch, time, size, kernel) against (size, kernel, out of this group)
            taps = sliding_window_view(padded[:, :, into], kernel, axis=1)
            y[:, :, outof] = np.tensordot(taps, weight[outof].transpose(2, 1, 0), axes=2)
        return y + bias

    def linear(self, x: Array, name: str) -> Array:
        y: Array = x @ self._tensors[f"{name}.weight"].T
        return y + self._tensors[f"{name}.bias"]

    def linears(self, x: Array, names: Sequence[str]) -> list[Array]:
        return [self.linear(x, name) for name in names]

    def layer_norm(self, x: Array, name: str, epsilon: float) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        normal: Array = centred / np.sqrt(variance + np.float32(epsilon))
        return normal * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]

    def gelu(self, x: Array) -> Array:
        return np.float32(0.5) * x * (np.float32(1) + erf(x * np.float32(0.5**0.5)))

    def residual(self, x: Array, y: Array) -> Array:
        return x + y

    def attention(self, query: Array, key: Array, value: Array, heads: int) -> Array:
        size = query.shape[-1] // heads
        out = np.empty_like(query)
        for head in range(heads):
            of_head = (slice(None), slice(None), slice(head * size, (head + 1) * size))
            scores = query[of_head] @ key[of_head].swapaxes(-1, -2) * np.float32(size**-0.5)
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[of_head] = scores / scores.sum(axis=-1, keepdims=True) @ value[of_head]
        return out

    def pool(self, states: Sequence[Array]) -> Array:
        return np.stack([state.mean(axis=1, dtype=np.float64) for state in states], axis=1).astype(np.float32)


def erf(x: Array) -> Array:
    """Return the error function of float32 values, to 1.5e-7 (Abramowitz and Stegun 1964, formula 7.1.26); numpy has none."""
    magnitude = np.abs(x)
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * magnitude)
    poly: Array = np.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly = (poly + np.float32(coefficient)) * t
    return np.asarray(np.copysign(np.float32(1) - poly * np.exp(-magnitude * magnitude), x))
