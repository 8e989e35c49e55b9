"""The network's operations as an OpenVINO graph.

Nothing is computed here. Each operation returns a node; `model` then returns the graph. Feature maps are (batch, channels, time),
the layout of OpenVINO's convolution; sequences are (batch, time, features). Parameters are float16 in the graph, as in the file;
OpenVINO converts them once, to the precision in which it computes. docs/benchmarks.md has the figures behind the choices made
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as op

from mertd.embed.architecture import Architecture
from mertd.embed.backends.parts import spans
from mertd.embed.network import first_convolution, hidden_states

Node = Any
"""A node of the graph; OpenVINO's stubs have no type for what its operations return."""


class Map(tuple[Node, ...]):
    """A feature map in parts, one after another in time. Each part is convolved on its own."""


class OpenVinoOps:
    """Builds a graph for windows of `length` samples."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]], length: int) -> None:
        self._tensors = tensors
        self._length = length
        self._made: dict[str, Node] = {}
        self.input = op.parameter([1, length], np.float32, name="input_values")

    def model(self, output: Node) -> openvino.Model:
        """Return the graph that ends in `output`."""
        return openvino.Model([op.result(output)], [self.input], "MERT")

    # Elementary

    def parameter(self, name: str, shape: tuple[int, ...]) -> Node:
        return self._parameter(f"{name}:{shape}", self._tensors[name].reshape(shape))

    def frames(self, samples: Node, length: int, hop: int) -> Node:
        count = (self._length - length) // hop + 1
        used = self._slice(samples, 0, (count + 1) * hop, axis=1)
        blocks = op.reshape(used, np.array([1, count + 1, hop]), False)
        return op.concat([self._slice(blocks, 0, count, axis=1), self._slice(blocks, 1, count + 1, axis=1)], 2)

    def add(self, a: Node, b: float) -> Node:
        return op.add(a, np.float32(b))

    def subtract(self, a: Node, b: Node) -> Node:
        return op.subtract(a, b)

    def multiply(self, a: Node, b: Node | float) -> Node:
        return op.multiply(a, np.float32(b) if isinstance(b, float | int) else b)

    def rsqrt(self, a: Node) -> Node:
        return op.divide(np.float32(1), op.sqrt(a))

    def relu(self, a: Node) -> Node:
        return op.relu(a)

    def matmul(self, a: Node, b: Node) -> Node:
        return op.matmul(a, b, False, False)

    def transpose(self, a: Node) -> Node:
        return op.transpose(a, np.array([0, 2, 1]))

    def mean(self, a: Node, axis: int) -> Node:
        return op.reduce_mean(a, np.array([axis]), True)

    def sum(self, a: Node, axis: int) -> Node:
        return op.reduce_sum(a, np.array([axis]), True)

    # The network's own

    def first_convolution(self, architecture: Architecture, samples: Node, length: int) -> Node:
        self._spans = spans(architecture, length)
        return first_convolution(self, architecture, samples, length)

    def first_map(self, frames: Node, weight: Node, bias: Node) -> Map:
        column = op.reshape(bias, np.array([1, -1, 1]), False)
        parts = [self._slice(frames, start, end, axis=1) for start, end in self._spans]
        return Map(op.add(op.matmul(weight, part, False, True), column) for part in parts)

    def conv(self, x: Map, name: str, stride: int) -> Map:
        weight = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"].transpose(0, 2, 1))
        return Map(op.convolution(part, weight, [stride], [0], [0], [1]) for part in x)

    def sequence(self, x: Map) -> Node:
        return self.transpose(op.concat(list(x), 2))

    def positional(self, x: Node, name: str, groups: int) -> Node:
        weight = self._tensors[f"{name}.weight"].transpose(0, 2, 1)
        out, into, size = weight.shape
        kernel = self._parameter(f"{name}.weight", weight.reshape(groups, out // groups, into, size))
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"].reshape(1, -1, 1))
        y = op.group_convolution(self.transpose(x), kernel, [1], [size // 2], [size // 2 - 1], [1])
        return self.transpose(op.add(y, bias))

    def linear(self, x: Node, name: str) -> Node:
        weight = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"])
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        return op.add(op.matmul(x, weight, False, True), bias)

    def linears(self, x: Node, names: Sequence[str]) -> list[Node]:
        return [self.linear(x, name) for name in names]

    def layer_norm(self, x: Node, name: str, epsilon: float) -> Node:
        gain = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"])
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        normal = op.mvn(x, np.array([-1]), True, epsilon, "inside_sqrt")
        return op.add(op.multiply(normal, gain), bias)

    def gelu(self, x: Node) -> Node:
        return Map(op.gelu(part, "erf") for part in x) if isinstance(x, Map) else op.gelu(x, "erf")

    def residual(self, x: Node, y: Node) -> Node:
        return op.add(x, y)

    def attention(self, query: Node, key: Node, value: Node, heads: int) -> Node:
        split = [self._split_heads(x, heads) for x in (query, key, value)]
        attended = op.scaled_dot_product_attention(*split, causal=False)
        return op.reshape(op.transpose(attended, np.array([0, 2, 1, 3])), np.array([0, 0, -1]), True)

    def pool(self, states: Sequence[Node]) -> Node:
        return op.concat([self.mean(state, axis=1) for state in states], 1)

    # Building blocks

    @staticmethod
    def _split_heads(x: Node, heads: int) -> Node:
        return op.transpose(op.reshape(x, np.array([0, 0, heads, -1]), True), np.array([0, 2, 1, 3]))

    @staticmethod
    def _slice(x: Node, start: int, end: int, axis: int) -> Node:
        return op.slice(x, *(np.array([value]) for value in (start, end, 1, axis)))

    def _parameter(self, name: str, value: NDArray[np.float16]) -> Node:
        if name not in self._made:
            constant = op.constant(np.ascontiguousarray(value, np.float16))
            self._made[name] = op.convert(constant, "f32")
        return self._made[name]


def build(
    architecture: Architecture, tensors: Mapping[str, NDArray[np.float16]], length: int, layers: Sequence[int]
) -> openvino.Model:
    """Return the graph for one window of `length` samples, (1, length) -> (1, layers, hidden)."""
    ops = OpenVinoOps(tensors, length)
    return ops.model(hidden_states(ops, architecture, ops.input, length, layers))
