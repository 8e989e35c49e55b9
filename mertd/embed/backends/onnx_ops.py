"""The network's operations as an ONNX graph, which ONNX Runtime runs.

Nothing is computed here. Each operation appends nodes and returns the name of its result; `model` then returns the graph.
Feature maps are (batch, channels, time), the layout of ONNX's convolution; sequences are (batch, time, features). Nodes of
`com.microsoft` are ONNX Runtime's own fused kernels. docs/benchmarks.md has the figures behind the choices made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture
from mertd.embed.backends.map_parts import spans
from mertd.embed.network import first_convolution, hidden_states

if TYPE_CHECKING:
    import onnx

INPUT = "input_values"
"""Name of the graph's input."""

OUTPUT = "hidden_states"
"""Name of the graph's output."""

_OPSETS = {"": 18, "com.microsoft": 1}
"""Domain of operators -> version."""


class Map(tuple[str, ...]):
    """A feature map in parts, one after another in time. Each part is convolved on its own."""


class OnnxOps:
    """Builds a graph for windows of `length` samples. `parameters`: the values that its nodes refer to, as float32."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]], length: int) -> None:
        self._tensors = tensors
        self._length = length
        self._nodes: list[onnx.NodeProto] = []
        self.parameters: dict[str, NDArray[np.float32]] = {}
        self._constants: dict[str, NDArray[Any]] = {}

    def model(self, output: str, shape: tuple[int, int]) -> onnx.ModelProto:
        """Return the graph that ends in `output`, of `shape` (layers, hidden) per window. The session adds the parameters."""
        from onnx import TensorProto, helper, numpy_helper

        initializers = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        for name, value in self.parameters.items():
            proto = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape, data_location=TensorProto.EXTERNAL)
            proto.external_data.add(key="location", value="in memory")
            initializers.append(proto)
        self._nodes.append(helper.make_node("Identity", [output], [OUTPUT]))
        graph = helper.make_graph(
            self._nodes,
            "MERT",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, self._length])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, *shape])],
            initializers,
        )
        imports = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    # Elementary

    def parameter(self, name: str, shape: tuple[int, ...]) -> str:
        return self._parameter(f"{name}:{shape}", self._tensors[name].reshape(shape))

    def frames(self, samples: str, length: int, hop: int) -> str:
        count = (self._length - length) // hop + 1
        used = self._slice(samples, 0, (count + 1) * hop)
        blocks = self._node("Reshape", used, self._constant(np.array([0, count + 1, hop])))
        return self._node("Concat", self._slice(blocks, 0, count), self._slice(blocks, 1, count + 1), axis=2)

    def add(self, a: str, b: float) -> str:
        return self._node("Add", a, self._scalar(b))

    def subtract(self, a: str, b: str) -> str:
        return self._node("Sub", a, b)

    def multiply(self, a: str, b: str | float) -> str:
        return self._node("Mul", a, b if isinstance(b, str) else self._scalar(b))

    def rsqrt(self, a: str) -> str:
        return self._node("Reciprocal", self._node("Sqrt", a))

    def relu(self, a: str) -> str:
        return self._node("Relu", a)

    def matmul(self, a: str, b: str) -> str:
        return self._node("MatMul", a, b)

    def transpose(self, a: str) -> str:
        return self._node("Transpose", a, perm=[0, 2, 1])

    def mean(self, a: str, axis: int) -> str:
        return self._node("ReduceMean", a, self._constant(np.array([axis])), keepdims=1)

    def sum(self, a: str, axis: int) -> str:
        return self._node("ReduceSum", a, self._constant(np.array([axis])), keepdims=1)

    # The network's own

    def first_convolution(self, architecture: Architecture, samples: str, length: int) -> Any:
        self._spans = spans(architecture, length)
        return first_convolution(self, architecture, samples, length)

    def first_map(self, frames: str, weight: str, bias: str) -> Map:
        # The bias is an eleventh column, multiplied by a row of ones: a separate sum would be one more pass over 300 MB.
        ones = self._node("Add", self._node("Mul", self._slice(frames, 0, 1, axis=2), self._scalar(0)), self._scalar(1))
        rows = self.transpose(self._node("Concat", frames, ones, axis=2))
        column = self._node("Reshape", bias, self._constant(np.array([1, -1, 1])))
        first = self._slice(weight, 0, 1, axis=2)
        spread = self._node("Add", self._node("Mul", first, self._scalar(0)), column)
        taps = self._node("Concat", weight, spread, axis=2)
        return Map(self.matmul(taps, self._slice(rows, start, end, axis=2)) for start, end in self._spans)

    def conv(self, x: Map, name: str, stride: int) -> Map:
        weight = self._tensors[f"{name}.weight"]
        kernel = self._parameter(f"{name}.weight", weight.transpose(0, 2, 1))
        return Map(self._node("Conv", part, kernel, strides=[stride], kernel_shape=[weight.shape[1]]) for part in x)

    def sequence(self, x: Map) -> str:
        return self.transpose(self._node("Concat", *x, axis=2))

    def positional(self, x: str, name: str, groups: int) -> str:
        weight = self._tensors[f"{name}.weight"]
        kernel = self._parameter(f"{name}.weight", weight.transpose(0, 2, 1))
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        half = weight.shape[1] // 2
        return self.transpose(self._node("Conv", self.transpose(x), kernel, bias, group=groups, pads=[half, half - 1]))

    def linear(self, x: str, name: str) -> str:
        weight = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"].T)
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        return self._node("Add", self.matmul(x, weight), bias)

    def linears(self, x: str, names: Sequence[str]) -> list[str]:
        return [self.linear(x, name) for name in names]

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        gain = self._parameter(f"{name}.weight", self._tensors[f"{name}.weight"])
        bias = self._parameter(f"{name}.bias", self._tensors[f"{name}.bias"])
        return self._node("LayerNormalization", x, gain, bias, epsilon=epsilon)

    def gelu(self, x: Any) -> Any:
        if isinstance(x, Map):
            return Map(self._node("Gelu", part, domain="com.microsoft") for part in x)
        return self._node("Gelu", x, domain="com.microsoft")

    def residual(self, x: str, y: str) -> str:
        return self._node("Add", x, y)

    def attention(self, query: str, key: str, value: str, heads: int) -> str:
        return self._node("MultiHeadAttention", query, key, value, domain="com.microsoft", num_heads=heads)

    def pool(self, states: Sequence[str]) -> str:
        return self._node("Concat", *(self.mean(state, axis=1) for state in states), axis=1)

    # Building blocks

    def _node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def _slice(self, x: str, start: int, end: int, axis: int = 1) -> str:
        bounds = (self._constant(np.array([value])) for value in (start, end, axis))
        return self._node("Slice", x, *bounds)

    def _parameter(self, name: str, value: NDArray[np.float16]) -> str:
        if name not in self.parameters:
            self.parameters[name] = np.ascontiguousarray(value, np.float32)
        return name

    def _scalar(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"{value.dtype}{value.tolist()}"
        self._constants[name] = value
        return name


def build(
    architecture: Architecture, tensors: Mapping[str, NDArray[np.float16]], length: int, layers: Sequence[int]
) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """Return the graph for windows of `length` samples, (batch, length) -> (batch, layers, hidden), and its parameters."""
    ops = OnnxOps(tensors, length)
    output = hidden_states(ops, architecture, INPUT, length, layers)
    return ops.model(output, (len(layers), architecture.hidden)), ops.parameters
