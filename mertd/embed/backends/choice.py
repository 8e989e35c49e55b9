"""The choice of a backend: the first of the candidates that starts here and passes its self-check."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mertd.embed.backends.backend import Backend
from mertd.embed.backends.mlx_backend import MlxBackend, mlx_has_gpu
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.onnx_backend import OnnxBackend, import_onnx
from mertd.embed.backends.self_check import agreement, check_signal, foreign_errors, run_check
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError


def _coreml(weights: Weights, layers: Sequence[int]) -> Backend:
    from mertd.embed.backends.coreml_backend import CoreMLBackend

    return CoreMLBackend(weights, layers)


FACTORIES: dict[str, Callable[[Weights, Sequence[int]], Backend]] = {
    "mlx": MlxBackend,
    "coreml": _coreml,
    "onnx": OnnxBackend,
    "numpy": NumpyBackend,
}
"""Name on the command line -> what makes the backend; it may raise `BackendError`."""


def candidates(choice: str) -> list[str]:
    """Return the backends to try, best first. `auto`: MLX if it has a GPU, Core ML on macOS, ONNX Runtime, the reference."""
    if choice != "auto":
        return [choice]
    return [*(["mlx"] if mlx_has_gpu() else []), *(["coreml"] if sys.platform == "darwin" else []), "onnx", "numpy"]


def preload(choice: str) -> None:
    """Import ONNX Runtime if it will be the first candidate: in a thread, while weights are read and their digest is made."""
    if choice == "onnx" or (choice == "auto" and sys.platform != "darwin" and importlib.util.find_spec("mlx") is None):
        with contextlib.suppress(BackendError):  # `choose` will report it
            import_onnx()


@dataclass(frozen=True)
class Chosen:
    """The backend in use, the lowest cosine of its self-check, and why preferred ones were not used."""

    backend: Backend
    agreement: float
    rejected: dict[str, str]


def choose(
    choice: str,
    weights: Weights,
    layers: Sequence[int],
    excluded: Mapping[str, str] | None = None,
    trying: Callable[[str, tuple[str, ...]], object] = lambda *_: None,
    window: int = 0,
) -> Chosen:
    """Return the first candidate that starts and agrees with the reference. Raises `BackendError` if none does.

    `window`: samples of the windows that it is prepared for, and at whose size its formulations must agree; 0 for neither.
    `excluded`: candidates that are not tried, and why. `trying` is called with each candidate and those after it before the
    candidate starts, because a native library can end the process.
    """
    rejected: dict[str, str] = dict(excluded or {})
    names = [name for name in candidates(choice) if name not in rejected]
    with ThreadPoolExecutor(1) as aside:  # a second core, if there is one, computes the reference meanwhile
        reference = aside.submit(lambda: NumpyBackend(weights, layers).embed(check_signal()[None]))
        for at, name in enumerate(names):
            trying(name, tuple(names[at + 1 :]))
            try:
                backend = FACTORIES[name](weights, layers)
                lowest = agreement(run_check(backend), reference.result())
                if window and (unsafe := _prepare(backend, window)):
                    rejected |= unsafe
                    lowest = agreement(run_check(backend), reference.result())  # of what it uses now
                    _prepare(backend, window)
            except BackendError as error:
                rejected[name] = str(error)
                continue
            return Chosen(backend, lowest, rejected)
    raise BackendError("no backend can run: " + "; ".join(f"{name}: {reason}" for name, reason in rejected.items()))


def _prepare(backend: Backend, window: int) -> Mapping[str, str]:
    """Prepare for windows of `window` samples. Return the formulations that are wrong at this size -> why."""
    with foreign_errors(f"cannot be prepared for windows of {window:,} samples"):
        unsafe = backend.check_size(window)
        backend.prepare(window)
    return unsafe
