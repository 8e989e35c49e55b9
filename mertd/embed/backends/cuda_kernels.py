"""Kernels of our own for an NVIDIA GPU, compiled once by the compiler that comes with MLX (NVRTC) and kept on disk.

MLX compiles kernels that it is given as text at every start, each with headers that take a second or more to read. These
kernels need no header, so that each compiles in a tenth of a second, and none is compiled twice for the same GPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mertd.embed.backends.kernel_store import KernelStore
from mertd.errors import BackendError

log = logging.getLogger(__name__)

NVRTC = ("libnvrtc.so.13", "libnvrtc.so.12")
"""Names under which MLX has loaded the compiler."""

MAJOR = 75
"""Number of the driver's attribute for the first part of a GPU's compute capability."""

MINOR = 76
"""Number of the driver's attribute for its second part."""

SYMBOL = "MERTD_SYMBOL"
"""What stands for a kernel's name in its text: the name is made from the rest of it."""

HALF = """
struct __half {
  unsigned short bits;
  __device__ __half() {}
  __device__ __half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ operator float() const { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits)); return x; }
};
"""
"""What the kernels need of CUDA's header for float16, which takes a second to compile."""


class Compiler:
    """NVRTC for one architecture, as `sm_90`."""

    def __init__(self, library: Any, architecture: str) -> None:
        self._library = library
        self.architecture = architecture
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(self, text: str) -> bytes:
        """Return machine code. Raises `BackendError` with the beginning of the compiler's log."""
        program = ctypes.c_void_p()
        if self._library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"mertd.cu", 0, None, None):
            raise BackendError("NVRTC takes no program")
        try:
            options = (ctypes.c_char_p * 1)(f"--gpu-architecture={self.architecture}".encode())
            if self._library.nvrtcCompileProgram(program, 1, options):
                lines = self._result(program, "ProgramLog").decode(errors="replace").strip("\0\n ").splitlines()
                raise BackendError(f"NVRTC cannot compile for {self.architecture}: {lines[0] if lines else 'it says nothing'}")
            return self._result(program, "CUBIN")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _result(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        getattr(self._library, f"nvrtcGet{what}")(program, content)
        return content.raw


class CudaKernels:
    """The kernels of this process."""

    def __init__(self, compiler: Compiler, store: KernelStore) -> None:
        self._compiler = compiler
        self._store = store

    def machine_code(self, name: str, text: str) -> tuple[str, bytes]:
        """Return the symbol and the machine code of a kernel. `text`: its source, in which SYMBOL stands for its name."""
        identity = f"{self._compiler.architecture} {self._compiler.version}\n{text}"
        symbol = f"{name}_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        code = self._store.get(symbol)
        if code is None:
            code = self._compiler.compile(text.replace(SYMBOL, symbol))
            self._store.put(symbol, code)
        return symbol, code

    def run(
        self,
        mx: Any,
        name: str,
        body: str,
        header: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        threads: int,
        block: int,
    ) -> list[Any]:
        """Run a kernel, as `mx.fast.cuda_kernel` would: `threads` of them, a multiple of `block`."""
        counted = [array for array in inputs if f"{array}_shape" in body]
        types = {array: str(value.dtype) for array, value in inputs.items()}
        types |= {array: str(dtype) for array, (_, dtype) in outputs.items()}
        symbol, code = self.machine_code(name, source(body, header, types, len(inputs), counted))
        shapes, dtypes = zip(*outputs.values(), strict=True)
        results: list[Any] = mx.fast.precompiled_cuda_kernel(
            name=symbol,
            compiled_source=code,
            inputs=list(inputs.values()),
            output_shapes=list(shapes),
            output_dtypes=list(dtypes),
            scalars=[int(inputs[array].shape[0]) for array in counted],
            grid=(threads, 1, 1),
            threadgroup=(block, 1, 1),
            ensure_row_contiguous=True,
        )
        return results


def usable_kernels(mx: Any, compiler: Compiler | None, store: KernelStore) -> CudaKernels | None:
    """Return what runs kernels of our own, if one that is made for the purpose gives the right result; else None."""
    if compiler is None:
        return None
    kernels = CudaKernels(compiler, store)
    try:
        count = 256
        doubled = kernels.run(
            mx,
            "mertd_probe",
            "  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;\n  out[at] = (__half)(2.0f * x[at] + x_shape[0]);\n",
            "",
            {"x": mx.arange(count, dtype=mx.float32)},
            {"out": ((count,), mx.float16)},
            count,
            count,
        )[0]
        is_right = bool(mx.array_equal(doubled, (2 * mx.arange(count) + count).astype(mx.float16)))
    except (BackendError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        log.warning("kernels are compiled by MLX at every start, because NVRTC cannot be used directly: %s", error)
        return None
    return kernels if is_right else None


def source(body: str, header: str, types: Mapping[str, str], inputs: int, counted: Sequence[str]) -> str:
    """Return the text of a kernel called SYMBOL.

    `types`: array -> MLX's dtype, the `inputs` first, then the outputs. `counted`: arrays whose first dimension the body reads.
    """
    c_types = {"mlx.core.float32": "float", "mlx.core.float16": "__half"}
    parameters = [
        f"{'const ' if at < inputs else ''}{c_types[kind]}* {array}" for at, (array, kind) in enumerate(types.items())
    ]
    parameters += [f"const int {array}_rows" for array in counted]
    shapes = "".join(f"  const int {array}_shape[1] = {{{array}_rows}};\n" for array in counted)
    return f'{HALF}{header}\nextern "C" __global__ void {SYMBOL}({", ".join(parameters)}) {{\n{shapes}{body}\n}}\n'


def find_compiler() -> Compiler | None:
    """Return the compiler for the first GPU; None if either is missing. Call it once MLX has loaded them."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        library = next(filter(None, map(_loaded, NVRTC)), None)
        device = ctypes.c_int()
        major, minor = ctypes.c_int(), ctypes.c_int()
        if library is None or driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
            return None
        for found, attribute in ((major, MAJOR), (minor, MINOR)):
            if driver.cuDeviceGetAttribute(ctypes.byref(found), attribute, device):
                return None
        return Compiler(library, f"sm_{major.value}{minor.value}")
    except (OSError, AttributeError) as error:
        log.debug("no NVRTC: %s", error)
        return None


def _loaded(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
