"""The network's operations as an OpenVINO graph.

Nothing is computed here. Each operation returns a node; `model` then returns the graph. Feature maps are (batch, channels,
time), the layout of OpenVINO's convolution; sequences are (batch, time, features). Parameters are float16 in the graph, as in
the file; OpenVINO converts them once, to the precision in which it computes. That precision is the whole graph's, so the
statistics of the first convolution come from outside (`first_inputs`). docs/benchmarks.md has the figures behind the choices
made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as op

from mertd.embed.architecture import Architecture
from mertd.embed.backends.backend import Array
from mertd.embed.backends.bfloat16 import Split
from mertd.embed.backends.map_parts import spans
from mertd.embed.backends.numpy_ops import NumpyOps
from mertd.embed.network import fold_norm, hidden_states

Node = Any
"""A node of the graph; OpenVINO's stubs have no type for what its operations return."""


class Map(tuple[Node, ...]):
    """A feature map in parts, one after another in time. Each part is convolved on its own."""


class OpenVinoOps:
    """Builds a graph for windows of `length` samples.

    Attributes:
        samples: an input, (2, length), in two parts as `first_inputs` returns them.
        weight: an input, (channels, columns), the other result of `first_inputs`.
    """

    def __init__(self, architecture: Architecture, tensors: Mapping[str, NDArray[np.float16]], length: int) -> None:
        self._tensors = tensors
        self._made: dict[str, Node] = {}
        self._spans = spans(architecture, length)
        self.samples = op.parameter([2, length], np.float32, name="samples")
        self.weight = op.parameter([architecture.channels, columns(architecture)], np.float32, name="weight")

    def model(self, output: Node) -> openvino.Model:
        """Return the graph that ends in `output`."""
        return openvino.Model([op.result(output)], [self.samples, self.weight], "MERT")

    def first_convolution(self, architecture: Architecture, samples: Node, length: int) -> Map:
        hop, count = architecture.strides[0], architecture.lengths(length)[0]
        used = self._slice(samples, 0, (count + 1) * hop, axis=1)
        blocks = op.reshape(used, np.array([2, count + 1, hop]), False)
        high, low = (self._slice(blocks, part, part + 1, axis=0) for part in (0, 1))
        return Map(self._first_part(high, low, start, end) for start, end in self._spans)

    def _first_part(self, high: Node, low: Node, start: int, end: int) -> Node:
        """Frames [start, end) of the first map; a frame is two of the blocks."""
        upper, lower = (
            [self._slice(blocks, first, first + end - start, axis=1) for first in (start, start + 1)] for blocks in (high, low)
        )
        ones = op.constant(np.ones((1, end - start, 2), np.float32))
        return op.matmul(self.weight, op.concat([*upper, *upper, *lower, ones], 2), False, True)

    def conv(self, x: Map, name: str, stride: int) -> Map:
        weight = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"].transpose(0, 2, 1))
        return Map(op.convolution(part, weight, [stride], [0], [0], [1]) for part in x)

    def sequence(self, x: Map) -> Node:
        return self._transpose(op.concat(list(x), 2))

    def positional(self, x: Node, name: str, groups: int) -> Node:
        weight = self._tensors[f"{name}.weight"].transpose(0, 2, 1)
        out, into, size = weight.shape
        kernel = self._parameter(f"{name}.weight", weight.reshape(groups, out // groups, into, size))
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"].reshape(1, -1, 1))
        y = op.group_convolution(self._transpose(x), kernel, [1], [size // 2], [size // 2 - 1], [1])
        return self._transpose(op.add(y, bias))

    def linear(self, x: Node, name: str) -> Node:
        weight = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"])
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        return op.add(op.matmul(x, weight, False, True), bias)

    def linears(self, x: Node, names: Sequence[str]) -> list[Node]:
        return [self.linear(x, name) for name in names]

    def layer_norm(self, x: Node, name: str, epsilon: float) -> Node:
        gain = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"])
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        return op.add(op.multiply(op.mvn(x, np.array([-1]), True, epsilon, "inside_sqrt"), gain), bias)

    def gelu(self, x: Any) -> Any:
        return Map(op.gelu(part, "erf") for part in x) if isinstance(x, Map) else op.gelu(x, "erf")

    def residual(self, x: Node, y: Node) -> Node:
        return op.add(x, y)

    def attention(self, query: Node, key: Node, value: Node, heads: int) -> Node:
        attended = op.scaled_dot_product_attention(*(_by_head(x, heads) for x in (query, key, value)), causal=False)
        return op.reshape(op.transpose(attended, np.array([0, 2, 1, 3])), np.array([0, 0, -1]), True)

    def pool(self, states: Sequence[Node]) -> Node:
        return op.concat([op.reduce_mean(state, np.array([1]), True) for state in states], 1)

    # Building blocks

    @staticmethod
    def _transpose(x: Node) -> Node:
        return op.transpose(x, np.array([0, 2, 1]))

    @staticmethod
    def _slice(x: Node, start: int, end: int, axis: int) -> Node:
        return op.slice(x, *(np.array([value]) for value in (start, end, 1, axis)))

    def _parameter(self, name: str, value: NDArray[np.float16]) -> Node:
        if name not in self._made:
            self._made[name] = op.convert(op.constant(np.ascontiguousarray(value, np.float16)), "f32")
        return self._made[name]


def _by_head(x: Node, heads: int) -> Node:
    """(batch, time, features) -> (batch, heads, time, size)."""
    return op.transpose(op.reshape(x, np.array([0, 0, heads, -1]), True), np.array([0, 2, 1, 3]))


def columns(architecture: Architecture) -> int:
    """Return how many numbers of a frame the first convolution is a product of: its samples thrice, and the bias twice."""
    return 3 * architecture.kernels[0] + 2


def first_inputs(architecture: Architecture, tensors: Mapping[str, Array], window: Array, split: Split) -> list[Array]:
    """Return the inputs of the graph for a window, (length,): samples (2, length) and weights (channels, columns).

    `tensors`: of the first convolution, in float32. `split`: of `mertd.embed.backends.bfloat16`.
    """
    centred, weights, bias = fold_norm(NumpyOps(tensors), architecture, window[None], len(window))
    weight = weights[0]
    mean = window[: architecture.kernels[0]].astype(np.float64) - centred[0, 0]
    bias = np.asarray(bias - weight.astype(np.float64) @ mean, np.float32)[:, None]
    high, low = split(weight)
    return [np.stack(split(window)), np.concatenate([high, low, high, *split(bias)], axis=1)]


def build(
    architecture: Architecture, tensors: Mapping[str, NDArray[np.float16]], length: int, layers: Sequence[int]
) -> openvino.Model:
    """Return the graph for one window of `length` samples: the inputs of `first_inputs` -> (1, layers, hidden)."""
    ops = OpenVinoOps(architecture, tensors, length)
    return ops.model(hidden_states(ops, architecture, ops.samples, length, layers))
