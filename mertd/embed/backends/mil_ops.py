"""The network's operations as a Core ML program, built with the MIL builder of coremltools: no torch, no tracing.

Nothing is computed here. Each operation appends to the program under construction and returns its result, a MIL `Var`.
Feature maps are (batch, channels, time), the layout of Core ML's convolution; sequences are (batch, time, features). All casts
are here, and the program is converted without adding others, so exactly this is float32:

- The elementary operations, hence the 10 x 10 Gram matrix: it sums 143,999 frames, and the epsilon of 1e-5 added to it is a
  subnormal number in float16.
- The first convolution's product and its bias. Sound is mostly low frequencies; a filter that lets only high ones pass is
  amplified by the norm folded into it, and with it the rounding of samples and weights to 11 bits.
- The layer norms. They square their input: beyond 255 that overflows float16, and outlier channels are near 2000.
- Pooling: a sum over 2,249 frames of values near 2000 overflows float16.

Everything else is float16: all large products, GELU and softmax. Their results stay within a few thousand, float16 reaches
65,504, and each element is rounded by itself, so that a large channel does not affect others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture
from mertd.embed.network import first_convolution, hidden_states

INPUT = "input_values"
"""Name of the program's input."""

OUTPUT = "hidden_states"
"""Name of the program's output."""

Var = Any
"""`coremltools.converters.mil.mil.Var`."""


class MilOps:
    """Appends to the program that the caller is building. `fused`: use `scaled_dot_product_attention`."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]], fused: bool) -> None:
        from coremltools.converters.mil import Builder

        self._build = Builder
        self._tensors = tensors
        self._fused = fused

    # Elementary

    def parameter(self, name: str, shape: tuple[int, ...]) -> Var:
        return self._build.const(val=self._tensors[name].reshape(shape).astype(np.float32))

    def frames(self, samples: Var, length: int, hop: int) -> Var:
        batch, n = samples.shape
        count = (n - length) // hop + 1
        used = self._build.slice_by_size(x=samples, begin=[0, 0], size=[batch, (count + 1) * hop])
        blocks = self._build.reshape(x=used, shape=[batch, count + 1, hop])
        halves = [self._build.slice_by_size(x=blocks, begin=[0, at, 0], size=[batch, count, hop]) for at in (0, 1)]
        return self._build.concat(values=halves, axis=2)

    def add(self, a: Var, b: float) -> Var:
        return self._build.add(x=a, y=np.float32(b))

    def subtract(self, a: Var, b: Var) -> Var:
        return self._build.sub(x=a, y=b)

    def multiply(self, a: Var, b: Var | float) -> Var:
        return self._build.mul(x=a, y=np.float32(b) if isinstance(b, float) else b)

    def rsqrt(self, a: Var) -> Var:
        # The builder adds an epsilon under the root, 1e-12 by default.
        return self._build.rsqrt(x=a, epsilon=np.float32(0))

    def relu(self, a: Var) -> Var:
        return self._build.relu(x=a)

    def matmul(self, a: Var, b: Var) -> Var:
        return self._build.matmul(x=a, y=b)

    def transpose(self, a: Var) -> Var:
        return self._build.transpose(x=a, perm=[0, 2, 1])

    def mean(self, a: Var, axis: int) -> Var:
        return self._build.reduce_mean(x=a, axes=[axis], keep_dims=True)

    def sum(self, a: Var, axis: int) -> Var:
        return self._build.reduce_sum(x=a, axes=[axis], keep_dims=True)

    # The network's own

    def first_convolution(self, architecture: Architecture, samples: Var, length: int) -> Var:
        return first_convolution(self, architecture, samples, length)

    def first_map(self, frames: Var, weight: Var, bias: Var) -> Var:
        product = self._build.matmul(x=weight, y=frames, transpose_y=True)
        column = self._build.reshape(x=bias, shape=[1, -1, 1])
        return self._half(self._build.add(x=product, y=column))

    def conv(self, x: Var, name: str, stride: int) -> Var:
        return self._build.conv(x=x, weight=self._kernel(name), strides=[stride], pad_type="valid")

    def sequence(self, x: Var) -> Var:
        return self.transpose(x)

    def positional(self, x: Var, name: str, groups: int) -> Var:
        kernel = self._kernel(name)
        half = kernel.shape[2] // 2
        y = self._build.conv(
            x=self.transpose(x),
            weight=kernel,
            bias=self._tensors[f"{name}.bias"],
            strides=[1],
            groups=groups,
            pad_type="custom",
            pad=[half, half - 1],
        )
        return self.transpose(y)

    def linear(self, x: Var, name: str) -> Var:
        return self._build.linear(x=x, weight=self._tensors[f"{name}.weight"], bias=self._tensors[f"{name}.bias"])

    def linears(self, x: Var, names: Sequence[str]) -> list[Var]:
        return [self.linear(x, name) for name in names]

    def layer_norm(self, x: Var, name: str, epsilon: float) -> Var:
        gamma, beta = (self._tensors[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        y = self._build.layer_norm(x=self._single(x), axes=[-1], gamma=gamma, beta=beta, epsilon=np.float32(epsilon))
        return self._half(y)

    def gelu(self, x: Var) -> Var:
        return self._build.gelu(x=x, mode="EXACT")

    def residual(self, x: Var, y: Var) -> Var:
        return self._build.add(x=x, y=y)

    def attention(self, query: Var, key: Var, value: Var, heads: int) -> Var:
        batch, time, features = query.shape
        size = features // heads
        q, k, v = (self._split(x, heads) for x in (query, key, value))
        if self._fused:
            attended = self._build.scaled_dot_product_attention(query=q, key=k, value=v)
        else:
            # Scaled before the product, so that the scores stay small.
            scaled = self._build.mul(x=q, y=np.float16(size**-0.5))
            scores = self._build.matmul(x=scaled, y=k, transpose_y=True)
            attended = self._build.matmul(x=self._build.softmax(x=scores, axis=-1), y=v)
        return self._build.reshape(x=self._build.transpose(x=attended, perm=[0, 2, 1, 3]), shape=[batch, time, features])

    def pool(self, states: Sequence[Var]) -> Var:
        return self._build.concat(values=[self.mean(self._single(state), axis=1) for state in states], axis=1)

    # Building blocks

    def _split(self, x: Var, heads: int) -> Var:
        batch, time, features = x.shape
        return self._build.transpose(
            x=self._build.reshape(x=x, shape=[batch, time, heads, features // heads]), perm=[0, 2, 1, 3]
        )

    def _kernel(self, name: str) -> Var:
        return self._build.const(val=np.ascontiguousarray(self._tensors[f"{name}.weight"].transpose(0, 2, 1)))

    def _half(self, x: Var) -> Var:
        return self._build.cast(x=x, dtype="fp16")

    def _single(self, x: Var) -> Var:
        return self._build.cast(x=x, dtype="fp32")


def build(
    architecture: Architecture,
    length: int,
    layers: Sequence[int],
    opset: Any,
    ops: MilOps,
) -> Any:
    """Return the MIL program for one window: `INPUT`, (1, length) float32 -> `OUTPUT`, (layers, hidden) float32.

    `opset`: the `coremltools.target` whose operations may be used; the fused attention of `MilOps` needs iOS 18 or later.
    """
    from coremltools.converters.mil import Builder

    def program(input_values: Var) -> Var:
        states = hidden_states(ops, architecture, input_values, length, layers)
        return Builder.squeeze(x=states, axes=[0], name=OUTPUT)

    return Builder.program(input_specs=[Builder.TensorSpec(shape=(1, length))], opset_version=opset)(program)
