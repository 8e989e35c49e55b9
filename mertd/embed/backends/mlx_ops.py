"""The network's operations on MLX: Metal on a Mac, CUDA or CPU on Linux.

Sequences and feature maps are both (batch, time, features). Statistics, the elementary operations and pooling are float32;
the rest is in the working dtype. Which formulation of the convolutions is fastest depends on the GPU, so there are three:
`conv1d` (MLX's convolution kernels), `product` (matrix products over overlapping strided views), and `fused` (products with
kernels of our own between them, in `mlx_fused_ops`). docs/benchmarks.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture
from mertd.embed.network import first_convolution

Convolutions = Literal["conv1d", "product", "fused"]
"""Formulations of the convolutions."""

POSITIONAL_BLOCK = 8
"""Output frames of the positional convolution that one row of its product gives."""


class MlxOps:
    """Runs on MLX's default device. `dtype` is the working precision, `mx.float16` or `mx.float32`."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]], dtype: Any, convolutions: Convolutions) -> None:
        self._tensors = tensors
        self._dtype = dtype
        self._convolutions = convolutions
        self._ready: dict[str, mx.array] = {}

    def parameter(self, name: str, shape: tuple[int, ...]) -> mx.array:
        return mx.array(self._tensors[name].reshape(shape).astype(np.float32))

    def frames(self, samples: mx.array, length: int, hop: int) -> mx.array:
        count = (samples.shape[1] - length) // hop + 1
        blocks = samples[:, : (count + 1) * hop].reshape(-1, count + 1, hop)
        return mx.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=2)

    def add(self, a: mx.array, b: float) -> mx.array:
        return a + b

    def subtract(self, a: mx.array, b: mx.array) -> mx.array:
        return a - b

    def multiply(self, a: mx.array, b: mx.array | float) -> mx.array:
        return a * b

    def rsqrt(self, a: mx.array) -> mx.array:
        return mx.rsqrt(a)

    def relu(self, a: mx.array) -> mx.array:
        return mx.maximum(a, 0)

    def matmul(self, a: mx.array, b: mx.array) -> mx.array:
        return a @ b

    def transpose(self, a: mx.array) -> mx.array:
        return a.swapaxes(-1, -2)

    def mean(self, a: mx.array, axis: int) -> mx.array:
        return a.mean(axis=axis, keepdims=True)

    def sum(self, a: mx.array, axis: int) -> mx.array:
        return a.sum(axis=axis, keepdims=True)

    def first_convolution(self, architecture: Architecture, samples: mx.array, length: int) -> mx.array:
        return first_convolution(self, architecture, samples, length)

    def first_map(self, frames: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        taps = weight.swapaxes(-1, -2)
        if self._dtype == mx.float16:
            # In float16, music would drown in the rounding of a rumble that the filters cancel; also in TF32, CUDA's usual
            # form of float32. So each factor is split in two; the three products that matter are one with three times the taps.
            (high, low), (heavy, light) = _split(frames), _split(taps)
            frames, taps = mx.concatenate([high, low, high], axis=-1), mx.concatenate([heavy, heavy, light], axis=-2)
        return frames @ taps + bias.astype(self._dtype)

    def conv(self, x: mx.array, name: str, stride: int) -> mx.array:
        weight = self._weight(name)
        if self._convolutions == "conv1d":
            return mx.conv1d(x, weight, stride=stride)
        out, kernel, size = weight.shape
        return _unfolded(x, kernel, stride) @ weight.reshape(out, kernel * size).T

    def sequence(self, x: mx.array) -> mx.array:
        return x

    def positional(self, x: mx.array, name: str, groups: int) -> mx.array:
        # A product of rows that hold all the input of `block` output frames with a matrix that holds the weights once for each
        # of them, shifted. It multiplies 5 % zeros, but unfolds an eighth of the data, and its products are large.
        block = POSITIONAL_BLOCK
        out, kernel, size = self._tensors[f"{name}.weight"].shape
        batch, time, _ = x.shape
        rows = -(-time // block)
        weights = self._load(f"{name}.blocks", lambda: _blocks(self._tensors[f"{name}.weight"], groups, block))
        padded = mx.pad(x, [(0, 0), (kernel // 2, rows * block - time + kernel // 2 - 1), (0, 0)])
        grouped = mx.contiguous(padded.reshape(batch, -1, groups, size).transpose(2, 0, 1, 3))
        width = (kernel + block - 1) * size
        step = (rows * block + kernel - 1) * size
        frames = mx.as_strided(grouped, (groups, batch, rows, width), (batch * step, step, block * size, 1))
        y = frames.reshape(groups, batch * rows, width) @ weights
        y = y.reshape(groups, batch, rows * block, out // groups)[:, :, :time]
        return y.transpose(1, 2, 0, 3).reshape(batch, time, out) + self._bias(name)

    def linear(self, x: mx.array, name: str) -> mx.array:
        return mx.addmm(self._bias(name), x, self._weight(name).T)

    def linears(self, x: mx.array, names: Sequence[str]) -> list[mx.array]:
        return [self.linear(x, name) for name in names]

    def layer_norm(self, x: mx.array, name: str, epsilon: float) -> mx.array:
        return mx.fast.layer_norm(x, self._weight(name), self._bias(name), epsilon)

    def gelu(self, x: mx.array) -> mx.array:
        return x * (1 + mx.erf(x * 0.5**0.5)) * 0.5

    def residual(self, x: mx.array, y: mx.array) -> mx.array:
        return x + y

    def attention(self, query: mx.array, key: mx.array, value: mx.array, heads: int) -> mx.array:
        batch, time, size = query.shape
        q, k, v = (a.reshape(batch, time, heads, -1).transpose(0, 2, 1, 3) for a in (query, key, value))
        attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=(size // heads) ** -0.5)
        return attended.transpose(0, 2, 1, 3).reshape(batch, time, size)

    def pool(self, states: Sequence[mx.array]) -> mx.array:
        return mx.stack([state.astype(mx.float32).mean(axis=1) for state in states], axis=1)

    def _weight(self, name: str) -> mx.array:
        return self._load(f"{name}.weight")

    def _bias(self, name: str) -> mx.array:
        return self._load(f"{name}.bias")

    def _load(self, name: str, make: Callable[[], NDArray[np.float16]] | None = None) -> mx.array:
        if name not in self._ready:
            self._ready[name] = mx.array(make() if make else self._tensors[name]).astype(self._dtype)
        return self._ready[name]


def _blocks(weight: NDArray[np.float16], groups: int, block: int) -> NDArray[np.float16]:
    """(out, kernel, size) -> (groups, (kernel + block - 1) * size, block * out / groups): for output frame p of a block, the
    weights of a group stand p frames lower.
    """
    out, kernel, size = weight.shape
    shifted = np.zeros((groups, kernel + block - 1, size, block, out // groups), weight.dtype)
    for frame in range(block):
        taps = weight.reshape(groups, out // groups, kernel, size).transpose(0, 2, 3, 1)
        shifted[:, frame : frame + kernel, :, frame] = taps
    return shifted.reshape(groups, (kernel + block - 1) * size, -1)


def _split(x: mx.array) -> tuple[mx.array, mx.array]:
    """float32 as the sum of two float16, good for 22 bits."""
    high = x.astype(mx.float16)
    return high, (x - high.astype(mx.float32)).astype(mx.float16)


def _unfolded(x: mx.array, kernel: int, stride: int) -> mx.array:
    """(batch, time, size) contiguous -> (batch, frames, kernel * size): frame t holds the time steps from t * stride on."""
    x = mx.contiguous(x)
    batch, time, size = x.shape
    count = (time - kernel) // stride + 1
    return mx.as_strided(x, (batch, count, kernel * size), (time * size, stride * size, 1))
