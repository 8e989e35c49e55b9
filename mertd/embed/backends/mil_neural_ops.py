"""The network's operations as a Core ML program shaped for the Neural Engine: an experiment until a Mac has run it.

The Neural Engine computes in float16, on tensors (batch, channels, height, width) of which no dimension may exceed 16,384. It
is fastest when channels come first and the last axis is long (Apple, "Deploying Transformers on the Apple Neural Engine").
So sequences are (1, features, 1, time), every linear map is a convolution of width 1, and attention is computed head by head.
Feature maps are longer than an axis may be; they are (1, channels, rows, time), where the rows are stretches of the sound that
overlap by what the convolutions see beyond their stride. They have no padding, so this is exact.

What sums over thousands of values stays in float32, on the CPU: the statistics and the product of the first convolution, and
pooling. Layer norms are float16; each divides by its largest value first, so that no square overflows or vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture
from mertd.embed.backends.mil_ops import MilOps, Var

MAX_DIMENSION = 16_384
"""Longest axis of a tensor on the Neural Engine."""

MIN_DIVISOR = 4e-3
"""Least value that a layer norm divides by: silence has equal features, and nothing is left of them without their mean."""


class NeuralMilOps(MilOps):
    """Appends to the program that the caller is building, for windows of one length and one window at a time."""

    def __init__(self, architecture: Architecture, tensors: Mapping[str, NDArray[np.float16]], length: int) -> None:
        super().__init__(tensors, fused=False)
        self._architecture = architecture
        self._frames = architecture.lengths(length)[-1]
        most = _frames_in(architecture, MAX_DIMENSION)
        self._rows = math.ceil(self._frames / most)
        self._row_frames = math.ceil(self._frames / self._rows)

    def first_map(self, frames: Var, weight: Var, bias: Var) -> Var:
        stride = math.prod(self._architecture.strides[1:])
        width = _span(self._architecture, self._row_frames)
        missing = (self._rows - 1) * stride * self._row_frames + width - frames.shape[1]
        if missing > 0:  # behind the last frame; what is computed from it is dropped by `sequence`
            frames = self._build.concat(values=[frames, np.zeros((1, missing, frames.shape[2]), np.float32)], axis=1)
        starts = [row * stride * self._row_frames for row in range(self._rows)]
        size = [1, width, frames.shape[2]]
        rows = [self._build.slice_by_size(x=frames, begin=[0, start, 0], size=size) for start in starts]
        product = self._build.matmul(x=weight, y=self._build.concat(values=rows, axis=0), transpose_y=True)
        column = self._build.reshape(x=bias, shape=[1, -1, 1])
        halves = self._half(self._build.add(x=product, y=column))  # (rows, channels, time)
        return self._build.expand_dims(x=self._build.transpose(x=halves, perm=[1, 0, 2]), axes=[0])

    def conv(self, x: Var, name: str, stride: int) -> Var:
        return self._build.conv(x=x, weight=self._wide_kernel(name), strides=[1, stride], pad_type="valid")

    def sequence(self, x: Var) -> Var:
        channels = x.shape[1]
        flat = self._build.reshape(x=x, shape=[1, channels, 1, self._rows * self._row_frames])
        return self._build.slice_by_size(x=flat, begin=[0, 0, 0, 0], size=[1, channels, 1, self._frames])

    def positional(self, x: Var, name: str, groups: int) -> Var:
        kernel = self._wide_kernel(name)
        half = kernel.shape[3] // 2
        bias = self._tensors[f"{name}.bias"]
        pad = [0, 0, half, half - 1]
        return self._build.conv(
            x=x, weight=kernel, bias=bias, strides=[1, 1], groups=groups, pad_type="custom", pad=pad, dilations=[1, 1]
        )

    def linear(self, x: Var, name: str) -> Var:
        weight = self._tensors[f"{name}.weight"]
        kernel = self._build.const(val=np.ascontiguousarray(weight[:, :, None, None]))
        return self._build.conv(x=x, weight=kernel, bias=self._tensors[f"{name}.bias"], strides=[1, 1], pad_type="valid")

    def layer_norm(self, x: Var, name: str, epsilon: float) -> Var:
        gamma, beta = (self._tensors[f"{name}.{part}"][None, :, None, None] for part in ("weight", "bias"))
        centred = self._build.sub(x=x, y=self._build.reduce_mean(x=x, axes=[1], keep_dims=True))
        largest = self._build.reduce_max(x=self._build.abs(x=centred), axes=[1], keep_dims=True)
        divisor = self._build.maximum(x=largest, y=np.float16(MIN_DIVISOR))
        scaled = self._build.real_div(x=centred, y=divisor)  # within -1 and 1
        variance = self._build.reduce_mean(x=self._build.mul(x=scaled, y=scaled), axes=[1], keep_dims=True)
        floor = self._build.real_div(x=np.float16(epsilon**0.5), y=divisor)
        root = self._build.sqrt(x=self._build.add(x=variance, y=self._build.mul(x=floor, y=floor)))
        normal = self._build.real_div(x=scaled, y=root)
        return self._build.add(x=self._build.mul(x=normal, y=gamma), y=beta)

    def attention(self, query: Var, key: Var, value: Var, heads: int) -> Var:
        size = query.shape[1] // heads
        scaled = self._build.mul(x=query, y=np.float16(size**-0.5))
        queries = self._build.split(x=scaled, num_splits=heads, axis=1)
        keys = self._build.split(x=self._build.transpose(x=key, perm=[0, 3, 2, 1]), num_splits=heads, axis=3)
        values = self._build.split(x=value, num_splits=heads, axis=1)
        attended = []
        for q, k, v in zip(queries, keys, values, strict=True):
            scores = self._build.einsum(values=(k, q), equation="nchw,nwhu->nchu")  # (1, key, 1, query)
            weights = self._build.softmax(x=scores, axis=1)
            attended.append(self._build.einsum(values=(v, weights), equation="nchw,nwhu->nchu"))
        return self._build.concat(values=attended, axis=1)

    def pool(self, states: Sequence[Var]) -> Var:
        means = [self._build.reduce_mean(x=self._single(state), axes=[2, 3], keep_dims=False) for state in states]
        return self._build.stack(values=means, axis=1)

    def _wide_kernel(self, name: str) -> Var:
        return self._build.const(val=np.ascontiguousarray(self._tensors[f"{name}.weight"].transpose(0, 2, 1)[:, :, None]))


def _span(architecture: Architecture, frames: int) -> int:
    """Return the time steps of the first feature map from which the other convolutions make `frames` frames."""
    for kernel, stride in zip(reversed(architecture.kernels[1:]), reversed(architecture.strides[1:]), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def _frames_in(architecture: Architecture, steps: int) -> int:
    """Return the most frames for which the first feature map has at most `steps` time steps."""
    return max(1, (steps - _span(architecture, 1)) // math.prod(architecture.strides[1:]) + 1)
