"""The MLX backend: Metal on a Mac, CUDA or a CPU on Linux."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mertd.embed.backends.backend import Array
from mertd.embed.backends.batch_memory import BatchMemory, BatchRoom, Lane, Upload
from mertd.embed.backends.check_stamp import device_identity
from mertd.embed.backends.cuda_kernels import CudaKernels, find_compiler, usable_kernels
from mertd.embed.backends.kernel_store import KernelStore
from mertd.embed.backends.self_check import cosines, size_check_signal
from mertd.embed.network import features, hidden_states
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

FORMS = ("conv1d", "product", "fused")
"""Formulations of the convolutions, see `mlx_ops`."""

SAFE_FORM = "product"
"""The formulation that uses nothing but plain matrix products."""

MIN_FRAME_COSINE = 0.999
"""Cosine between formulations that every frame must exceed. Rounding to float16 leaves 0.999998."""

CACHE_BYTES = 1 << 30
"""Memory that MLX may keep between windows. Its default, 1.5 times the working set, looks like a leak over days."""

WINDOW_BYTES = 1 << 30
"""Working set of one 30 s window in a batch: 0.7 to 1.1 GB."""

MAX_WINDOWS = 8
"""Windows in the largest batch."""


class MlxBackend:
    """MLX: float16 on a GPU (Metal or CUDA), float32 on a CPU. Use from one thread only: MLX streams are thread-local."""

    name = "mlx"

    def __init__(
        self, weights: Weights, layers: Sequence[int], precision: str | None = None, convolutions: str | None = None
    ) -> None:
        """`convolutions`: one of `FORMS`; by default the fastest here. Raises `BackendError` if MLX is not installed."""
        mx = self._mx = _import_mlx()
        gpu = mlx_has_gpu()
        self.device = "gpu" if gpu else "cpu"
        self.precision = precision or ("float16" if gpu else "float32")
        self.form = convolutions or fastest_form(self.precision)
        self.max_batch = _max_windows(mx) if gpu else 1
        mx.set_cache_limit(CACHE_BYTES)
        self._kernels: CudaKernels | None = None
        self._store: KernelStore | None = None
        if gpu and not mx.metal.is_available():
            self._use_store()
        self._weights = weights
        self._layers = layers
        self._run = self._network(self.form)
        self.upload, room = self._lane()
        self._memory = BatchMemory(room, deque([self._lane(), self._lane()]))

    def _use_store(self) -> None:
        """Keep compiled kernels on disk, and compile those of our own without MLX if that works here."""
        compiler = find_compiler()
        compiled_by = (compiler.architecture, compiler.version) if compiler else ()
        self._store = KernelStore("\n".join([*device_identity(self.name, self.device), *compiled_by]))
        self._store.lend_to_mlx()
        self._kernels = usable_kernels(self._mx, compiler, self._store)

    def prepare(self, length: int) -> None:
        if self.device == "gpu":  # compile now; on a CPU there is nothing to compile
            self.embed(np.zeros((1, length), np.float32))
        if self._store is not None:
            self._store.save()

    def check_size(self, length: int) -> Mapping[str, str]:
        """Compare the convolutions with products, at the size of one window and of the largest batch; see `Backend`.

        Convolutions on GPUs have been silently wrong by their size alone (mlx #3979, #3248, mlx-swift #424): zeros, or frames
        that are all the same. A matrix product takes another path, and each frame is compared.
        """
        if self.form == SAFE_FORM:
            return {}
        windows = size_check_signal(length)
        expected = [self._features(SAFE_FORM, window[None])[0] for window in windows]
        for batch in sorted({1, self.max_batch}):
            rows = [at % len(windows) for at in range(batch)]
            got = self._features(self.form, windows[rows])
            with np.errstate(invalid="ignore"):  # frames of zeros have no cosine, and fail
                lowest = float(np.min([cosines(found, expected[row]) for found, row in zip(got, rows, strict=True)]))
            if not lowest > MIN_FRAME_COSINE:
                name = f"{self.name} {self.form}"
                reason = (
                    f"its convolutions of {batch} windows of {length:,} samples are not those of plain products: a frame has "
                    f"cosine {lowest:.4f}; products are used instead"
                )
                self.form = SAFE_FORM
                self._run = self._network(SAFE_FORM)
                return {name: reason}
        return {}

    def _ops(self, form: str) -> Any:
        return _ops(self._mx, self._weights, self.precision, form, self._kernels)

    def _network(self, form: str) -> Callable[[Any], Any]:
        ops, architecture = self._ops(form), self._weights.architecture
        layers = self._layers
        return self._compiled(lambda samples: hidden_states(ops, architecture, samples, samples.shape[1], layers))

    def _features(self, form: str, windows: Array) -> Array:
        """Return what the convolutions of a formulation make of windows, (batch, frames, channels)."""
        ops, architecture = self._ops(form), self._weights.architecture
        run = self._compiled(lambda samples: features(ops, architecture, samples, samples.shape[1]))
        return np.array(run(self._mx.array(windows)).astype(self._mx.float32))

    def _compiled(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """On a CPU MLX compiles by calling a C++ compiler, which a user may not have."""
        compiled: Callable[[Any], Any] = self._mx.compile(run) if self.device == "gpu" else run
        return compiled

    def room(self, count: int, length: int) -> Array:
        return self._memory.room.lend(count, length)

    def embed(self, windows: Array) -> Array:
        return np.array(self.compute(self.upload(self._memory.room.filled_up(windows))), np.float32)[: len(windows)]

    def begin(self, windows: Sequence[Array]) -> Callable[[], Array]:
        """Begin to embed normalised windows of one length, (samples,) each; return what waits for their states, as `embed`
        returns them.

        One more batch may be begun before the states of this one are asked for: it has memory of its own.
        """
        self._memory.lanes.rotate()
        upload, room = self._memory.lanes[0]
        batch = room.lend(len(windows), len(windows[0]))
        for row, samples in zip(batch, windows, strict=True):
            row[:] = samples
        states = self._run(upload(room.filled_up(batch)))
        self._mx.async_eval(states)

        def wait() -> Array:
            self._mx.eval(states)
            return np.array(states, np.float32)[: len(windows)]

        return wait

    def _lane(self) -> Lane:
        """Return what copies batches to the device, and memory to copy from."""
        if self.device != "gpu" or self._mx.metal.is_available():
            return self._mx.array, BatchRoom(lambda shape: np.empty(shape, np.float32))
        upload = Upload(self._mx)
        return upload, BatchRoom(upload.room)

    def compute(self, samples: Any) -> Any:
        """Return the states of windows that are on the device, as an MLX array that has been computed."""
        states = self._run(samples)
        self._mx.eval(states)  # here, where it lets other threads run; reading the result would not
        return states


def _import_mlx() -> Any:
    # For one window a GPU waits for its host: kernels that are started one by one arrive sooner than graphs of them.
    os.environ.setdefault("MLX_USE_CUDA_GRAPHS", "0")
    os.environ.setdefault("MLX_ENABLE_TF32", "0")  # real float32: it carries the statistics
    try:
        import mlx.core as mx
    except ImportError as error:
        raise BackendError(f"mlx is not installed here ({error})") from error
    return mx


def _ops(mx: Any, weights: Weights, precision: str, form: str, kernels: CudaKernels | None) -> Any:
    from mertd.embed.backends import mlx_kernels
    from mertd.embed.backends.mlx_fused_ops import FusedMlxOps
    from mertd.embed.backends.mlx_ops import MlxOps

    if form == "fused":
        if precision != "float16":
            raise BackendError(f"the fused convolutions of mlx are float16, not {precision}")
        return FusedMlxOps(weights.tensors, mlx_kernels.METAL if mx.metal.is_available() else mlx_kernels.CUDA, kernels)
    return MlxOps(weights.tensors, getattr(mx, precision), form)  # type: ignore[arg-type]


def fastest_form(precision: str) -> str:
    """Return the fastest formulation of the convolutions for one window: measured on CUDA and on a CPU, assumed on Metal."""
    mx = _import_mlx()
    if mx.metal.is_available():
        return "conv1d"
    return "fused" if precision == "float16" and mlx_has_gpu() else "product"


def _max_windows(mx: Any) -> int:
    """Return how many windows a quarter of the GPU's memory holds, as a power of two of at most `MAX_WINDOWS`."""
    info = mx.device_info()
    memory = int(info.get("total_memory") or info.get("memory_size") or 0)
    return min(MAX_WINDOWS, 1 << max(0, (memory // 4 // WINDOW_BYTES).bit_length() - 1))


def mlx_has_gpu() -> bool:
    """Return whether MLX is installed and can use a GPU here."""
    try:
        mx = _import_mlx()
    except BackendError:
        return False
    return bool(mx.is_available(mx.gpu))
