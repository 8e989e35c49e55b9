"""The backends that can run the network here, and the choice between them.

A backend is only trusted once it has reproduced the numpy reference on one second of sound.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import normalise
from mertd.embed.mlx_backend import mlx_has_gpu
from mertd.embed.network import hidden_states
from mertd.embed.ops_numpy import NumpyOps
from mertd.embed.weights.tensors import Weights
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


class _Widened(dict[str, Array]):
    """Tensors in float32, each when it is first asked for: layers that are not wanted are never converted."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float16]]) -> None:
        super().__init__()
        self._tensors = tensors

    def __missing__(self, name: str) -> Array:
        return self.setdefault(name, self._tensors[name].astype(np.float32))


class NumpyBackend:
    """The readable reference. Exact, slow, always there."""

    name, precision, device, max_batch = "numpy", "float32", "cpu", 1

    def __init__(self, weights: Weights, layers: Sequence[int]) -> None:
        self._architecture, self._layers = weights.architecture, layers
        self._ops = NumpyOps(_Widened(weights.tensors))

    def prepare(self, length: int) -> None:
        """Nothing to do: numpy has no compiled form."""

    def embed(self, windows: Array) -> Array:
        return hidden_states(self._ops, self._architecture, windows, windows.shape[1], self._layers)


class OnnxBackend:
    """ONNX Runtime on the CPU."""

    name, precision, device, max_batch = "onnx", "float32", "cpu", 1

    def __init__(self, weights: Weights, layers: Sequence[int], threads: int = 0) -> None:
        """`threads`: for the kernels; 0 lets ONNX Runtime take every core. Raises `BackendError` if it is not installed."""
        self._runtime, self._weights, self._layers, self._threads = _import_onnx(), weights, layers, threads
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


def _import_onnx() -> Any:
    # Its official builds send usage data to Microsoft unless told not to before they are loaded (onnxruntime #27379).
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"onnx is not installed here ({error})") from error
    return onnxruntime


def _mlx(weights: Weights, layers: Sequence[int]) -> Backend:
    from mertd.embed.mlx_backend import MlxBackend

    return MlxBackend(weights, layers)


def _coreml(weights: Weights, layers: Sequence[int]) -> Backend:
    from mertd.embed.coreml import CoreMLBackend

    return CoreMLBackend(weights, layers)


FACTORIES: dict[str, Callable[[Weights, Sequence[int]], Backend]] = {
    "mlx": _mlx,
    "coreml": _coreml,
    "onnx": OnnxBackend,
    "numpy": NumpyBackend,
}


def candidates(choice: str) -> list[str]:
    """Backends to try, best first. `auto`: mlx if it has a GPU, Core ML on macOS, ONNX Runtime, then the reference itself."""
    if choice != "auto":
        return [choice]
    return [*(["mlx"] if mlx_has_gpu() else []), *(["coreml"] if sys.platform == "darwin" else []), "onnx", "numpy"]


def preload(choice: str) -> None:
    """Import what ONNX Runtime needs, if it will be the first candidate: in a thread, while weights are read and digested."""
    if choice == "onnx" or (choice == "auto" and sys.platform != "darwin" and importlib.util.find_spec("mlx") is None):
        with contextlib.suppress(BackendError):  # `choose` will say so
            _import_onnx()


@dataclass(frozen=True)
class Chosen:
    """The backend in use, the worst cosine of its self-check, and why better ones were passed over."""

    backend: Backend
    agreement: float
    rejected: dict[str, str]


def choose(
    choice: str,
    weights: Weights,
    layers: Sequence[int],
    excluded: Mapping[str, str] | None = None,
    trying: Callable[[str, tuple[str, ...]], object] = lambda *_: None,
) -> Chosen:
    """The first candidate that starts and agrees with the reference; `BackendError` if none does.

    `excluded`: candidates to pass over, and why. `trying` is told each candidate and those after it, before it can do harm.
    """
    rejected: dict[str, str] = dict(excluded or {})
    names = [name for name in candidates(choice) if name not in rejected]
    with ThreadPoolExecutor(1) as aside:  # a second core, if there is one, computes the reference meanwhile
        reference = aside.submit(lambda: NumpyBackend(weights, layers).embed(check_signal()[None]))
        for at, name in enumerate(names):
            trying(name, tuple(names[at + 1 :]))
            try:
                backend = FACTORIES[name](weights, layers)
                agreement = _agreement(_self_check(backend), reference.result())
            except BackendError as error:
                rejected[name] = str(error)
                continue
            return Chosen(backend, agreement, rejected)
    raise BackendError("no backend can run: " + "; ".join(f"{name}: {reason}" for name, reason in rejected.items()))


def check(backend: Backend, reference: Array) -> float:
    """The worst cosine over layers between `backend` and the reference states of `check_signal`, (1, layers, hidden).

    Raises `BackendError` when it is not above `AGREEMENT`, or when the backend fails.
    """
    return _agreement(_self_check(backend), reference)


def _self_check(backend: Backend) -> Array:
    try:
        return backend.embed(check_signal()[None])
    except BackendError:
        raise
    except Exception as error:  # ONNX Runtime, MLX and coremltools each have classes of their own, derived from this alone
        raise BackendError(f"failed its self-check: {next(iter(str(error).splitlines()), type(error).__name__)}") from error


def _agreement(states: Array, reference: Array) -> float:
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
