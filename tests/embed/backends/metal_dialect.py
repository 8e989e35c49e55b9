"""The GPU kernels as Metal's compiler is given them, read by clang on any machine.

Metal is C++14 with address spaces, as OpenCL C++ is, and its compiler is clang: what clang refuses in this form, Metal refuses.
MLX puts the body of a kernel into a function whose parameters it names after the arrays; `wrapped` does the same. Words that
only Metal reserves are looked for among the names that the text declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from clang import cindex
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture, conv_layer
from mertd.embed.backends.mlx_fused_ops import FusedMlxOps
from mertd.embed.backends.mlx_kernels import METAL

KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const const_cast
    constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern false float for friend
    goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    register reinterpret_cast return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
"""Keywords of C++14, the language that Metal is based on."""

QUALIFIERS = """
    kernel vertex fragment visible intersection mesh object intersection_function stitchable device constant thread
    threadgroup threadgroup_imageblock ray_data object_data payload stage_in patch coherent imageblock raster_order_group
    function_constant metal
"""
"""Metal's function qualifiers and address spaces, and its namespace: chapters 4 and 5 of its specification."""

TYPES = """
    half bfloat uchar ushort uint ulong size_t ptrdiff_t int8_t uint8_t int16_t uint16_t int32_t uint32_t int64_t uint64_t
    float16_t bfloat16_t complex64_t sampler event atomic atomic_int atomic_uint atomic_bool array array_ref matrix vec
    access buffer texture texture1d texture2d texture3d texturecube texture1d_array texture2d_array texture2d_ms
    texture_buffer texturecube_array depth2d depth2d_array depthcube simdgroup_matrix tensor
"""
"""Types that every Metal program has, and those that MLX declares before a kernel; without those of several values."""

SCALARS = "bool char uchar short ushort int uint long ulong half bfloat float"
"""Types of which there are vectors of 2, 3 and 4, as `half4`, also packed, as `packed_half4`."""

VECTORS = {f"{kind}{size}" for kind in SCALARS.split() for size in (2, 3, 4)}
MATRICES = {f"{kind}{a}x{b}" for kind in ("half", "float") for a in (2, 3, 4) for b in (2, 3, 4)}
RESERVED = {*KEYWORDS.split(), *QUALIFIERS.split(), *TYPES.split(), *VECTORS, *(f"packed_{v}" for v in VECTORS), *MATRICES}
"""Words that cannot name a parameter, a variable or a function in a kernel."""

PRELUDE = """
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define device __global
#define constant __constant
#define thread __private
#define threadgroup __local
typedef unsigned int uint;
typedef unsigned long ulong;
typedef half float16_t;
typedef half half4 __attribute__((ext_vector_type(4)));
typedef uint uint3 __attribute__((ext_vector_type(3)));
namespace metal {
float rsqrt(float x);
float exp(float x);
}
#define BEGIN_KERNEL
"""
"""What Metal's library declares of all that the kernels may use, in the words of OpenCL C++."""

OPTIONS = ["-x", "cl", "-cl-std=CLC++", "-cl-no-stdinc", "-Wno-unknown-attributes"]
"""For clang. Its own headers are not part of the library on PyPI."""

METAL_TYPES = {mx.float32: "float", mx.float16: "float16_t"}

MAX_CONSTANT_SIZE = 8
"""Arrays with fewer values than this MLX passes in the address space `constant`."""


@dataclass(frozen=True)
class Call:
    """One kernel as `FusedMlxOps` calls it: its text, its constants, and the shapes and dtypes of its arrays."""

    name: str
    source: str
    constants: Mapping[str, int | float]
    inputs: Mapping[str, tuple[tuple[int, ...], Any]]
    outputs: Mapping[str, tuple[tuple[int, ...], Any]]


class RecordingOps(FusedMlxOps):
    """`FusedMlxOps` for Metal that notes its kernels instead of running them. Nothing is computed."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]]) -> None:
        super().__init__(tensors, METAL)
        self.calls: list[Call] = []

    def _run(
        self,
        name: str,
        source: str,
        constants: Mapping[str, int | float],
        inputs: Mapping[str, mx.array],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        threads: int,
    ) -> list[mx.array]:
        assert threads < 2**32, "the number of a thread is an unsigned int"
        shapes = {key: (array.shape, array.dtype) for key, array in inputs.items()}
        self.calls.append(Call(name, source, dict(constants), shapes, dict(outputs)))
        return [mx.zeros(shape, dtype) for shape, dtype in outputs.values()]


def calls(architecture: Architecture, length: int, batch: int) -> list[Call]:
    """Every kernel that the network calls for a batch of windows of `length` samples."""
    tensors = {name: np.broadcast_to(np.float16(0), shape) for name, shape in architecture.tensors.items()}
    ops = RecordingOps(tensors)
    x = ops.gelu(ops.first_convolution(architecture, mx.zeros((batch, length)), length))
    for index, stride in enumerate(architecture.strides[1:], start=1):
        x = ops.gelu(ops.conv(x, f"{conv_layer(index)}.conv", stride))
    return ops.calls


def wrapped(call: Call) -> str:
    """The text that MLX compiles for a kernel: its header, then the function that it writes around the body."""
    body = METAL.body(call.source, call.constants)
    parameters = []
    for name, (shape, dtype) in call.inputs.items():
        where = "constant" if int(np.prod(shape)) < MAX_CONSTANT_SIZE else "device"
        parameters.append(f"const {where} {METAL_TYPES[dtype]}{'*' if shape else '&'} {name}")
        facts = (("shape", "int*"), ("strides", "long*"), ("ndim", "int&"))  # of which those that the body uses are passed
        used = [(what, kind) for what, kind in facts if f"{name}_{what}" in call.source]
        parameters += [f"const constant {kind} {name}_{what}" for what, kind in used]
    parameters += [f"device {METAL_TYPES[dtype]}* {name}" for name, (_, dtype) in call.outputs.items()]
    buffers = [f"{parameter} [[buffer({at})]]" for at, parameter in enumerate(parameters)]
    buffers.append("uint3 thread_position_in_grid [[thread_position_in_grid]]")
    unique = f"custom_kernel_mertd_{call.name}"
    written = ",\n  ".join(buffers)
    return f"{PRELUDE}{METAL.header()}\n[[kernel]] void {unique}(\n  {written}) {{\n{body}\n}}\n"


def faults(text: str) -> list[str]:
    """What is wrong with a kernel as Metal sees it: what clang reports, declared names that Metal reserves, and pointers
    without an address space, which OpenCL C++ has and Metal has not.
    """
    unit = cindex.Index.create().parse("kernel.cl", OPTIONS, [("kernel.cl", text)])
    reports = [one for one in unit.diagnostics if one.severity >= cindex.Diagnostic.Warning]
    first = text[: text.index("#define BEGIN_KERNEL")].count("\n") + 1
    ours = [cursor for cursor in unit.cursor.walk_preorder() if cursor.location.line > first]
    names = {cursor.spelling for cursor in ours if cursor.kind.is_declaration()}
    written = (cindex.CursorKind.VAR_DECL, cindex.CursorKind.PARM_DECL, cindex.CursorKind.CSTYLE_CAST_EXPR)
    generic = {cursor.location.line for cursor in ours if cursor.kind in written and "__generic" in cursor.type.spelling}
    return [
        *(f"line {report.location.line}: {report.spelling}" for report in reports),
        *(f"{name!r} is reserved in Metal" for name in sorted(names & RESERVED)),
        *(f"line {line}: a pointer without an address space" for line in sorted(generic)),
    ]


def declared(text: str) -> set[str]:
    """The names that a kernel declares: functions, parameters, variables, types and fields."""
    unit = cindex.Index.create().parse("kernel.cl", OPTIONS, [("kernel.cl", text)])
    return {cursor.spelling for cursor in unit.cursor.walk_preorder() if cursor.kind.is_declaration() and cursor.spelling}
