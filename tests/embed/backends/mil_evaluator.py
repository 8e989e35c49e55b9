"""Runs a saved Core ML package in numpy: no Mac, no Core ML, no torch.

It reads back what was written, graph and weights, and executes it operation by operation. Every operation is computed in
float32, and its result is rounded to float16 where the package says float16, so overflow and loss of precision show. That
checks the package, not Apple's kernels.

`strict` makes the worst of float16: subnormal numbers become zero, and what an operation goes through on the way (squares and
means in a layer norm, scores and exponentials in attention, a sum before it is divided) is rounded as its result is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mertd.embed.backends.coreml_package import quiet
from mertd.embed.backends.numpy_ops import erf

Array = NDArray[np.float32]
Rounding = Callable[[Array], Array]
SMALLEST_NORMAL = np.float32(2**-14)


class Package:
    """A package read back. `operations` are those of its only function, in order, constants left out."""

    def __init__(self, path: Path) -> None:
        with quiet():
            from coremltools.converters.mil.frontend.milproto.load import load
            from coremltools.models import MLModel

            self.model = MLModel(str(path), skip_model_load=True)
            spec = self.model.get_spec()
            program = load(spec, spec.specificationVersion, self.model.weights_dir)
        self._function = program.functions["main"]
        self.operations = [op for op in self._function.operations if op.op_type != "const"]
        self.largest_of: dict[str, float] = {}
        """Magnitude of the largest float16 result of each type of operation in the last run; infinite if one overflowed."""

    @property
    def largest(self) -> float:
        """Magnitude of the largest float16 result of the last run."""
        return max(self.largest_of.values(), default=0.0)

    def run(self, samples: Array, strict: bool = False) -> Array:
        """A normalised window, (length,) -> hidden states, (layers, hidden)."""
        self.largest_of = {}
        (name,) = self._function.inputs
        values = {self._function.inputs[name]: samples[None]}
        (output,) = self._function.outputs
        left = {var: len(var.child_ops) for op in self.operations for var in op.outputs}
        for op in self.operations:
            values |= zip(op.outputs, self._results(op, values, strict), strict=True)
            for used in {var for var in _flat(op.inputs.values()) if var in left and var is not output}:
                left[used] -= 1
                if left[used] == 0:
                    del values[used]
        return values[output]

    def kinds(self, dtype: str) -> set[str]:
        """Types of the operations whose result is `dtype`, "fp16" or "fp32"."""
        return {op.op_type for op in self.operations if _is_half(op.outputs[0]) == (dtype == "fp16")}

    def live_bytes(self) -> int:
        """The largest sum of results that are needed at one time, in the order of the operations: a bound from below for the
        memory that a run takes, without weights, and without what a kernel needs for itself.
        """
        (output,) = self._function.outputs
        left = {var: len(var.child_ops) for op in self.operations for var in op.outputs}
        live = largest = 0
        for op in self.operations:
            live += sum(_bytes(var) for var in op.outputs)
            largest = max(largest, live)
            for used in {var for var in _flat(op.inputs.values()) if var in left and var is not output}:
                left[used] -= 1
                live -= _bytes(used) if left[used] == 0 else 0
        return largest

    def _results(self, op: Any, values: dict[Any, Array], strict: bool) -> list[Array]:
        half = _is_half(op.outputs[0])
        inputs = {key: _value(var, values, strict) for key, var in op.inputs.items() if var is not None}
        rounding = (strict_half if strict else _half) if half else _single
        found = OPERATIONS[op.op_type](rounding if strict else _single, **inputs)
        results = [rounding(result) for result in (found if isinstance(found, list) else [found])]
        for result, var in zip(results, op.outputs, strict=True):
            assert result.shape == tuple(var.shape), op
            if half:
                self.largest_of[op.op_type] = max(self.largest_of.get(op.op_type, 0.0), float(np.abs(result).max()))
        return results


def _flat(inputs: Any) -> list[Any]:
    return [var for item in inputs for var in (item if isinstance(item, (list, tuple)) else [item])]


def _value(var: Any, values: dict[Any, Array], strict: bool) -> Any:
    if isinstance(var, (list, tuple)):
        return [_value(item, values, strict) for item in var]
    if var in values:
        return values[var]
    constant = var.val
    if isinstance(constant, np.ndarray) and constant.dtype == np.float16:
        return (strict_half if strict else _half)(constant.astype(np.float32))
    return constant.item() if isinstance(constant, np.generic) else constant


def _is_half(var: Any) -> bool:
    from coremltools.converters.mil.mil import types

    return bool(var.dtype == types.fp16)


def _bytes(var: Any) -> int:
    return int(np.prod(var.shape)) * (2 if _is_half(var) else 4)


def _single(x: Array) -> Array:
    return np.asarray(x, np.float32)


def _half(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def strict_half(x: Array) -> Array:
    """Rounded to float16; subnormal numbers become zero."""
    x = _half(x)
    return np.where(np.abs(x) < SMALLEST_NORMAL, np.float32(0), x)


# Each takes the rounding of its inner steps, then its MIL inputs by name; the caller rounds what it returns.


def _slice(_: Rounding, x: Array, begin: Any, size: Any) -> Array:
    return x[tuple(slice(start, start + length) for start, length in zip(begin, size, strict=True))]


def _matmul(_: Rounding, x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    left = x.swapaxes(-1, -2) if transpose_x else x
    right = y.swapaxes(-1, -2) if transpose_y else y
    return np.asarray(left @ right)


def _mean(step: Rounding, x: Array, axes: Any, keep_dims: bool) -> Array:
    total = step(x.sum(axis=tuple(axes), keepdims=keep_dims, dtype=np.float64))
    return total * np.float32(total.size / x.size)


def _layer_norm(step: Rounding, x: Array, axes: Any, gamma: Array, beta: Array, epsilon: float) -> Array:
    centred = step(x - _mean(step, x, axes, True))
    variance = step(_mean(step, step(np.square(centred)), axes, True))
    deviation: Array = np.sqrt(step(variance + step(np.array(epsilon, np.float32))))
    normal = step(centred * step(np.reciprocal(deviation)))
    y: Array = step(normal * gamma) + beta
    return y


def _gelu(_: Rounding, x: Array, mode: str) -> Array:
    assert mode == "EXACT"
    y = np.empty(x.shape, x.dtype)
    for row, out in zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]), strict=True):  # in cache, row by row
        out[:] = np.float32(0.5) * row * (np.float32(1) + erf(row * np.float32(0.5**0.5)))
    return y


def _softmax(step: Rounding, x: Array, axis: int) -> Array:
    powers = step(np.exp(step(x - x.max(axis=axis, keepdims=True))))
    return powers / step(powers.sum(axis=axis, keepdims=True))


def _attention(step: Rounding, query: Array, key: Array, value: Array) -> Array:
    scale = np.float32(query.shape[-1] ** -0.5)
    scores = step(step(query @ key.swapaxes(-1, -2)) * scale)
    return np.asarray(step(_softmax(step, scores, -1)) @ value)


def _conv(
    _: Rounding,
    x: Array,
    weight: Array,
    strides: Any,
    pad_type: str,
    pad: Any,
    groups: int,
    dilations: Any,
    bias: Array | None = None,
) -> Array:
    if x.ndim == 4:  # rows that are convolved one by one, along the last axis
        assert weight.shape[2] == 1
        assert (list(strides)[:1], list(pad)[:2]) == ([1], [0, 0])
        rows = [
            _conv(
                _, x[:, :, row], weight[:, :, 0], list(strides)[1:], pad_type, list(pad)[2:], groups, list(dilations)[1:], bias
            )
            for row in range(x.shape[2])
        ]
        return np.stack(rows, axis=2)
    assert list(dilations) == [1]
    (stride,), kernel = strides, weight.shape[2]
    if pad_type == "custom":
        x = np.pad(x, ((0, 0), (0, 0), tuple(pad)))
    length = (x.shape[2] - kernel) // stride + 1
    y = np.zeros((x.shape[0], weight.shape[0], length), np.float32)
    into, outof = weight.shape[1], weight.shape[0] // groups
    for group in range(groups):
        part = x[:, group * into : (group + 1) * into]
        rows = slice(group * outof, (group + 1) * outof)
        if groups > 1:  # many taps on a short sequence: one product
            taps = sliding_window_view(part, kernel, axis=2)[:, :, ::stride]
            y[:, rows] = np.einsum("ock,bctk->bot", weight[rows], taps, optimize=True)
            continue
        for tap in range(kernel):
            y += weight[:, :, tap] @ part[:, :, tap : tap + stride * (length - 1) + 1 : stride]
    return y if bias is None else y + bias[:, None]


def _einsum(_: Rounding, values: list[Array], equation: str) -> Array:
    assert equation == "nchw,nwhu->nchu"
    left, right = values
    return np.asarray((left.transpose(0, 2, 1, 3) @ right.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3))


def _linear(_: Rounding, x: Array, weight: Array, bias: Array) -> Array:
    return np.asarray(x @ weight.T + bias)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda _, x: np.abs(x),
    "add": lambda _, x, y: x + y,
    "cast": lambda _, x, dtype: x,  # noqa: ARG005 - the dtype is also that of the output, which rounds
    "concat": lambda _, values, axis, interleave: np.concatenate(values, axis),  # noqa: ARG005 - false in all packages
    "conv": _conv,
    "einsum": _einsum,
    "expand_dims": lambda _, x, axes: np.expand_dims(x, tuple(axes)),
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "maximum": lambda _, x, y: np.maximum(x, y),
    "mul": lambda _, x, y: x * y,
    "real_div": lambda _, x, y: x / y,
    "reduce_max": lambda _, x, axes, keep_dims: x.max(axis=tuple(axes), keepdims=keep_dims),
    "reduce_mean": _mean,
    "reduce_sum": lambda _, x, axes, keep_dims: x.sum(axis=tuple(axes), keepdims=keep_dims),
    "relu": lambda _, x: np.maximum(x, 0),
    "reshape": lambda _, x, shape: x.reshape(shape),
    "rsqrt": lambda _, x, epsilon: 1 / np.sqrt(x + epsilon),
    "scaled_dot_product_attention": _attention,
    "slice_by_size": _slice,
    "softmax": _softmax,
    "split": lambda _, x, num_splits, axis: np.split(x, num_splits, axis),
    "sqrt": lambda _, x: np.sqrt(x),
    "stack": lambda _, values, axis: np.stack(values, axis),
    "squeeze": lambda _, x, axes: x.squeeze(tuple(axes)),
    "sub": lambda _, x, y: x - y,
    "transpose": lambda _, x, perm: x.transpose(perm),
}
