"""The backends that can run the network here, and the choice between them.

A backend is only trusted once it has reproduced the numpy reference on one second of sound.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import SAMPLE_RATE
from mertd.embed.audio import normalise
from mertd.embed.network import hidden_states
from mertd.embed.ops_numpy import NumpyOps
from mertd.embed.weights import Weights
from mertd.errors import BackendError

Array = NDArray[np.float32]
AGREEMENT = 0.999
"""Cosine with the reference that every layer of a backend must exceed at start-up."""


class Backend(Protocol):
    """One way to run the network. The form compiled for one window length is kept until another length is asked for."""

    name: str
    precision: str
    device: str
    max_batch: int  # windows worth giving in one call

    def prepare(self, length: int) -> None:
        """Do now what the first window of `length` samples would otherwise wait for."""

    def embed(self, windows: Array) -> Array:
        """Normalised windows, (batch, samples) -> pooled hidden states, (batch, layers, hidden)."""


class NumpyBackend:
    """The readable reference. Exact, slow, always there."""

    name, precision, device, max_batch = "numpy", "float32", "cpu", 1

    def __init__(self, weights: Weights, layers: Sequence[int]) -> None:
        self._architecture, self._layers = weights.architecture, layers
        self._ops = NumpyOps({name: tensor.astype(np.float32) for name, tensor in weights.tensors.items()})

    def prepare(self, length: int) -> None:
        """Nothing to do: numpy has no compiled form."""

    def embed(self, windows: Array) -> Array:
        return hidden_states(self._ops, self._architecture, windows, windows.shape[1], self._layers)


class OnnxBackend:
    """ONNX Runtime on the CPU."""

    name, precision, device, max_batch = "onnx", "float32", "cpu", 1

    def __init__(self, weights: Weights, layers: Sequence[int], threads: int = 0) -> None:
        """`threads`: for the kernels; 0 lets ONNX Runtime take every core. Raises `BackendError` if it is not installed."""
        # Its official builds send usage data to Microsoft unless told not to before they are loaded (onnxruntime #27379).
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        try:
            import onnx  # noqa: F401
            import onnxruntime
        except ImportError as error:
            raise BackendError(f"onnx is not installed here ({error})") from error
        self._runtime, self._weights, self._layers, self._threads = onnxruntime, weights, layers, threads
        self._length = 0
        self._session: Any = None

    def prepare(self, length: int) -> None:
        if length == self._length:
            return
        from mertd.embed.ops_onnx import build

        self._session = None
        model, parameters = build(self._weights.architecture, self._weights.tensors, length, self._layers)
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        # A daemon waits far longer than it works: threads that spin while waiting would burn a core for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Between windows the feature maps' memory goes back to the system: 0.8 GB stay in place of 2.1, for 5 % of the speed.
        options.enable_cpu_mem_arena = False
        # Parameters are handed over in memory: inside the model they would be copied twice.
        values = [self._runtime.OrtValue.ortvalue_from_numpy(value) for value in parameters.values()]
        options.add_external_initializers(list(parameters), values)
        self._session = self._runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._length = length

    def embed(self, windows: Array) -> Array:
        self.prepare(windows.shape[1])
        return np.concatenate([self._session.run(None, {"input_values": window[None]})[0] for window in windows])


class MlxBackend:
    """MLX: float16 on a GPU (Metal or CUDA), float32 on a CPU. Use from one thread only: MLX streams are thread-local."""

    name = "mlx"

    def __init__(
        self, weights: Weights, layers: Sequence[int], precision: str | None = None, convolutions: str | None = None
    ) -> None:
        """Raises `BackendError` if MLX is not installed."""
        try:
            import mlx.core as mx
        except ImportError as error:
            raise BackendError(f"mlx is not installed here ({error})") from error
        from mertd.embed.ops_mlx import MlxOps

        gpu = mlx_has_gpu()
        self.device = "gpu" if gpu else "cpu"
        self.precision = precision or ("float16" if gpu else "float32")
        self.max_batch = 8 if gpu else 1
        self._mx = mx
        mx.set_cache_limit(1 << 30)  # its default, 1.5 times the working set, looks like a leak over days
        ops = MlxOps(weights.tensors, getattr(mx, self.precision), convolutions or _fastest(mx))  # type: ignore[arg-type]

        def run(samples: Any) -> Any:
            return hidden_states(ops, weights.architecture, samples, samples.shape[1], layers)

        # On a CPU MLX compiles by calling a C++ compiler, which a user need not have.
        self._run: Callable[[Any], Any] = mx.compile(run) if gpu else run

    def prepare(self, length: int) -> None:
        if self.device == "gpu":  # compile now; on a CPU there is nothing to compile
            self.embed(np.zeros((1, length), np.float32))

    def embed(self, windows: Array) -> Array:
        # Batches are filled up to a power of two, so that few shapes are ever compiled.
        missing = (1 << (len(windows) - 1).bit_length()) - len(windows)
        batch = np.pad(windows, ((0, missing), (0, 0))) if missing else windows
        return np.array(self._run(self._mx.array(batch)), np.float32)[: len(windows)]


def _fastest(mx: Any) -> str:
    """The formulation of the convolutions for live use: measured on CUDA and on a CPU, expected on Metal, where nobody has."""
    return "conv1d" if mx.metal.is_available() else "product"


def mlx_has_gpu() -> bool:
    """Whether MLX is installed and can use a GPU here."""
    try:
        import mlx.core as mx
    except ImportError:
        return False
    return bool(mx.is_available(mx.gpu))


def _coreml(weights: Weights, layers: Sequence[int]) -> Backend:
    from mertd.embed.coreml import CoreMLBackend

    return CoreMLBackend(weights, layers)


FACTORIES: dict[str, Callable[[Weights, Sequence[int]], Backend]] = {
    "mlx": MlxBackend,
    "coreml": _coreml,
    "onnx": OnnxBackend,
    "numpy": NumpyBackend,
}


def candidates(choice: str) -> list[str]:
    """Backends to try, best first. `auto`: mlx if it has a GPU, Core ML on macOS, ONNX Runtime, then the reference itself."""
    if choice != "auto":
        return [choice]
    return [*(["mlx"] if mlx_has_gpu() else []), *(["coreml"] if sys.platform == "darwin" else []), "onnx", "numpy"]


@dataclass(frozen=True)
class Chosen:
    """The backend in use, the worst cosine of its self-check, and why better ones were passed over."""

    backend: Backend
    agreement: float
    rejected: dict[str, str]


def choose(choice: str, weights: Weights, layers: Sequence[int]) -> Chosen:
    """The first candidate that starts and agrees with the reference; `BackendError` if none does."""
    rejected: dict[str, str] = {}
    reference: Array | None = None
    for name in candidates(choice):
        try:
            backend = FACTORIES[name](weights, layers)
            if reference is None:
                reference = NumpyBackend(weights, layers).embed(check_signal()[None])
            agreement = check(backend, reference)
        except BackendError as error:
            rejected[name] = str(error)
            continue
        return Chosen(backend, agreement, rejected)
    raise BackendError("no backend can run: " + "; ".join(f"{name}: {reason}" for name, reason in rejected.items()))


def check(backend: Backend, reference: Array) -> float:
    """The worst cosine over layers between `backend` and the reference states of `check_signal`, (1, layers, hidden).

    Raises `BackendError` when it is not above `AGREEMENT`, or when the backend fails.
    """
    try:
        states = backend.embed(check_signal()[None])
    except BackendError:
        raise
    except Exception as error:  # ONNX Runtime, MLX and coremltools each have classes of their own, derived from this alone
        raise BackendError(f"failed its self-check: {next(iter(str(error).splitlines()), type(error).__name__)}") from error
    if states.shape != reference.shape:
        raise BackendError(f"gives states of shape {states.shape}, the reference {reference.shape}")
    with np.errstate(invalid="ignore"):  # a vector of zeros or infinities has no cosine, and fails
        worst = float(cosines(states, reference).min())
    if not worst > AGREEMENT:
        raise BackendError(f"disagrees with the reference: cosine {worst:.6f} on one second of sound, wanted > {AGREEMENT}")
    return worst


def cosines(a: Array, b: Array) -> NDArray[np.float64]:
    """Cosine similarity along the last axis."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=-1) * np.linalg.norm(b64, axis=-1)
    return np.asarray((a64 * b64).sum(axis=-1) / norms)


def check_signal() -> Array:
    """One second of a rising tone with harmonics and a little noise, normalised. Shape (24000,)."""
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * (110 * t + 600 * t * t)
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(SAMPLE_RATE)
    return normalise((np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase) + 0.02 * noise).astype(np.float32))
