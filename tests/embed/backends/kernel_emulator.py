"""The GPU kernels on a CPU: the same text compiled as C++, one thread after another."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mertd.embed.backends.mlx_fused_ops import THREADS, FusedMlxOps
from mertd.embed.backends.mlx_kernels import Dialect

CPU = Dialect(
    "thread",
    """
#include <cmath>
#define GLOBAL
#define HALF _Float16
#define INLINE static inline
#define UNROLL
#define RSQRT(x) (1.0f / std::sqrt(x))
#define EXP std::exp
#define RECIPROCAL(x) (1.0f / (x))
typedef unsigned long long ulong_t;
struct alignas(8) Half4 { _Float16 v[4]; };
""",
)
C_TYPES = {mx.float32: "float", mx.float16: "_Float16"}


@cache
def library(source: str) -> Any:
    """`source` compiled and loaded. Raises `FileNotFoundError` where there is no C++ compiler."""
    folder = Path(tempfile.mkdtemp(prefix="mertd-kernel-"))
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    (folder / f"{name}.cc").write_text(source)
    built = folder / f"{name}.so"
    options = [
        "-O2",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-Wno-unused-function",
        "-Wno-sign-compare",
    ]
    subprocess.run(["g++", *options, "-o", built, folder / f"{name}.cc"], check=True)
    return ctypes.CDLL(str(built))


class EmulatedOps(FusedMlxOps):
    """`FusedMlxOps` whose kernels run on the CPU. Outputs begin as NaN, so that what is not written shows."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]]) -> None:
        super().__init__(tensors, CPU)

    def _run(
        self,
        name: str,  # noqa: ARG002
        source: str,
        constants: Mapping[str, int | float],
        inputs: Mapping[str, mx.array],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        threads: int,
    ) -> list[mx.array]:
        shapes = {f"{key}_shape": np.array(x.shape, np.int32) for key, x in inputs.items()}
        arguments = [f"const {C_TYPES[x.dtype]}* {key}" for key, x in inputs.items()]
        arguments += [f"const int* {key}" for key in shapes]
        arguments += [f"{C_TYPES[dtype]}* {key}" for key, (_, dtype) in outputs.items()]
        source = f"""{CPU.header()}
static void kernel(unsigned thread, {", ".join(arguments)}) {{
{CPU.body(source, constants)}
}}
extern "C" void run(unsigned threads, {", ".join(arguments)}) {{
  for (unsigned thread = 0; thread < threads; ++thread) kernel(thread, {", ".join([*inputs, *shapes, *outputs])});
}}"""
        read = [np.ascontiguousarray(np.array(x)) for x in inputs.values()]
        dtypes = {mx.float32: np.float32, mx.float16: np.float16}
        written = [np.full(shape, np.nan, dtypes[dtype]) for shape, dtype in outputs.values()]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in [*read, *shapes.values(), *written]]
        library(source).run(-(-threads // THREADS) * THREADS, *pointers)
        return [mx.array(array) for array in written]
