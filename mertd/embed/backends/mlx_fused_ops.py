"""The network's operations on MLX with fused kernels: everything between the products of the convolutions is one kernel each.

A feature map stays unevaluated until the next convolution needs its rows: then one kernel activates and unfolds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture, conv_layer
from mertd.embed.backends import mlx_kernels
from mertd.embed.backends.cuda_kernels import CudaKernels
from mertd.embed.backends.mlx_ops import MlxOps

MOMENT_STREAMS = 4096
"""Threads that share the statistics of one window."""

FIRST_TILE = 64
"""Time steps that one thread of the first convolution computes."""

THREADS = 256
"""Threads of a block."""


@dataclass
class _Sound:
    """The first convolution before any of it is computed."""

    samples: mx.array
    taps: mx.array
    bias: mx.array
    architecture: Architecture


@dataclass
class _Map:
    """A feature map, (batch, time, channels), whose GELU is computed by the kernel that reads it."""

    values: _Sound | mx.array
    activated: bool = False


class FusedMlxOps(MlxOps):
    """The operations on a GPU in float16, with kernels of our own between the products of the convolutions."""

    def __init__(
        self, tensors: Mapping[str, NDArray[np.float16]], dialect: mlx_kernels.Dialect, kernels: CudaKernels | None = None
    ) -> None:
        """`kernels`: what compiles and runs kernels on an NVIDIA GPU; without, MLX compiles them at every start."""
        super().__init__(tensors, mx.float16, "product")
        self._dialect = dialect
        self._kernels = kernels

    def first_convolution(self, architecture: Architecture, samples: mx.array, length: int) -> Any:
        name = conv_layer(0)
        batch = samples.shape[0]
        kernel, channels = architecture.kernels[0], architecture.channels
        count = kernel + kernel * (kernel + 1) // 2
        constants = {"FRAMES": architecture.lengths(length)[0], "LENGTH": kernel}
        (partial,) = self._run(
            "moments",
            mlx_kernels.MOMENTS,
            {**constants, "SAMPLES": length, "HOP": architecture.strides[0], "STREAMS": MOMENT_STREAMS},
            {"samples": samples},
            {"moments": ((batch, count, MOMENT_STREAMS), mx.float32)},
            batch * MOMENT_STREAMS,
        )
        weight = self.parameter(f"{name}.conv.weight", (channels, kernel))
        gamma = self.parameter(f"{name}.layer_norm.weight", (channels,))
        beta = self.parameter(f"{name}.layer_norm.bias", (channels,))
        taps, bias = self._run(
            "taps",
            mlx_kernels.TAPS,
            {**constants, "CHANNELS": channels, "EPSILON": architecture.epsilon},
            {"moments": partial.sum(axis=-1), "weight": weight, "gamma": gamma, "beta": beta},
            {"taps": ((batch, kernel, channels), mx.float32), "bias": ((batch, channels), mx.float32)},
            batch * channels,
        )
        return _Map(_Sound(samples, taps, bias, architecture))

    def gelu(self, x: Any) -> Any:
        return _Map(x.values, activated=True) if isinstance(x, _Map) else super().gelu(x)

    def conv(self, x: Any, name: str, stride: int) -> Any:
        weight = self._weight(name)
        out, kernel, size = weight.shape
        assert x.activated
        rows = (
            self._first_rows(x.values, kernel, stride) if isinstance(x.values, _Sound) else self._rows(x.values, kernel, stride)
        )
        return _Map(rows @ weight.reshape(out, kernel * size).T)

    def sequence(self, x: Any) -> mx.array:
        assert x.activated
        return super().gelu(x.values)

    def linears(self, x: mx.array, names: Sequence[str]) -> list[mx.array]:
        weight = self._load("+".join(names), lambda: np.concatenate([self._tensors[f"{name}.weight"] for name in names]))
        bias = self._load("+".join(names) + ".bias", lambda: np.concatenate([self._tensors[f"{name}.bias"] for name in names]))
        return list(mx.split(mx.addmm(bias, x, weight.T), len(names), axis=-1))

    def _first_rows(self, sound: _Sound, kernel: int, stride: int) -> mx.array:
        (batch, length), (_, width, channels) = sound.samples.shape, sound.taps.shape
        frames = sound.architecture.lengths(length)[0]
        count, tiles = (frames - kernel) // stride + 1, -(-frames // FIRST_TILE)
        constants = {"SAMPLES": length, "FRAMES": frames, "LENGTH": width, "CHANNELS": channels}
        (rows,) = self._run(
            "first",
            mlx_kernels.FIRST,
            {**constants, "HOP": sound.architecture.strides[0], "TILE": FIRST_TILE, "TILES": tiles}
            | {"ROWS": count, "KERNEL": kernel, "STRIDE": stride},
            {"samples": sound.samples, "taps": sound.taps, "bias": sound.bias},
            {"rows": ((batch, count, kernel * channels), mx.float16)},
            batch * tiles * (channels // 4),
        )
        return rows

    def _rows(self, x: mx.array, kernel: int, stride: int) -> mx.array:
        batch, time, channels = x.shape
        count = (time - kernel) // stride + 1
        (rows,) = self._run(
            "next",
            mlx_kernels.NEXT,
            {"TIME": time, "CHANNELS": channels, "ROWS": count, "KERNEL": kernel, "STRIDE": stride},
            {"map": x},
            {"rows": ((batch, count, kernel * channels), mx.float16)},
            batch * time * (channels // 4),
        )
        return rows

    def _run(
        self,
        name: str,
        source: str,
        constants: Mapping[str, int | float],
        inputs: Mapping[str, mx.array],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        threads: int,
    ) -> list[mx.array]:
        make = mx.fast.cuda_kernel if self._dialect is mlx_kernels.CUDA else mx.fast.metal_kernel
        unique = "_".join([f"mertd_{name}", *(str(value) for value in constants.values() if isinstance(value, int))])
        body, header = self._dialect.body(source, constants), self._dialect.header()
        padded = -(-threads // THREADS) * THREADS
        if self._kernels is not None:
            return self._kernels.run(mx, f"mertd_{name}", body, header, inputs, outputs, padded, THREADS)
        kernel: Any = make(unique, list(inputs), list(outputs), body, header)
        shapes, dtypes = zip(*outputs.values(), strict=True)
        results: list[mx.array] = kernel(
            inputs=list(inputs.values()),
            output_shapes=list(shapes),
            output_dtypes=list(dtypes),
            grid=(padded, 1, 1),
            threadgroup=(THREADS, 1, 1),
        )
        return results
