"""The choice of a backend: the first of the candidates that starts here and passes its self-check."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mertd.embed.backends.backend import Array, Backend
from mertd.embed.backends.check_stamp import CheckStamp
from mertd.embed.backends.mlx_backend import MlxBackend, mlx_has_gpu
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.onnx_backend import OnnxBackend, import_onnx
from mertd.embed.backends.openvino_backend import OpenVinoBackend, import_openvino
from mertd.embed.backends.self_check import agreement, check_signal, foreign_errors, least_cosine, run_check
from mertd.embed.private_cache import CacheUnusableError
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError


class Factory(Protocol):
    """Makes a backend. `precision`: auto, float32 or bfloat16. Raises `BackendError` if that cannot be."""

    def __call__(self, weights: Weights, layers: Sequence[int], precision: str = "auto") -> Backend: ...


def _mlx(weights: Weights, layers: Sequence[int], precision: str = "auto") -> Backend:
    if precision == "bfloat16":
        raise BackendError("mlx computes in float16 or float32 here, not bfloat16")
    return MlxBackend(weights, layers, None if precision == "auto" else precision)


def _coreml(weights: Weights, layers: Sequence[int]) -> Backend:
    from mertd.embed.backends.coreml_backend import CoreMLBackend

    return CoreMLBackend(weights, layers)


def _only(name: str, only: str, make: Callable[[Weights, Sequence[int]], Backend]) -> Factory:
    """Return what makes a backend that computes in one precision."""

    def factory(weights: Weights, layers: Sequence[int], precision: str = "auto") -> Backend:
        if precision not in ("auto", only):
            raise BackendError(f"{name} computes in {only}, not {precision}")
        return make(weights, layers)

    return factory


FACTORIES: dict[str, Factory] = {
    "mlx": _mlx,
    "coreml": _only("coreml", "float16", _coreml),
    "openvino": OpenVinoBackend,
    "onnx": _only("onnx", "float32", OnnxBackend),
    "numpy": _only("numpy", "float32", NumpyBackend),
}
"""Name on the command line -> what makes the backend."""

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux says what a processor can do."""


def candidates(choice: str, precision: str = "auto") -> list[str]:
    """Return the backends to try, best first. `auto`: MLX if it has a GPU, Core ML on macOS, OpenVINO if it is installed and
    can compute in bfloat16 (in float32 it is no faster), ONNX Runtime, the reference.
    """
    if choice != "auto":
        return [choice]
    return [
        *(["mlx"] if mlx_has_gpu() else []),
        *(["coreml"] if sys.platform == "darwin" else []),
        *(["openvino"] if precision != "float32" and importlib.util.find_spec("openvino") and cpu_has_bfloat16() else []),
        "onnx",
        "numpy",
    ]


def cpu_has_bfloat16() -> bool:
    """Return whether this is an x86 processor that multiplies matrices of bfloat16."""
    try:
        return re.search(r"\b(avx512_bf16|amx_bf16)\b", CPU_INFO.read_text()) is not None
    except OSError:
        return False


def preload(choice: str, precision: str = "auto") -> None:
    """Import the first candidate's library if it is a CPU's: in a thread, while weights are read and their digest is made."""
    if choice == "auto" and (sys.platform == "darwin" or importlib.util.find_spec("mlx") is not None):
        return
    imports = {"openvino": import_openvino, "onnx": import_onnx}
    with contextlib.suppress(BackendError, KeyError):  # `choose` will report it
        imports[candidates(choice, precision)[0]]()


@dataclass(frozen=True)
class Chosen:
    """The backend in use, the lowest cosine of its self-check, why preferred ones were not used, and when it was checked."""

    backend: Backend
    agreement: float
    rejected: dict[str, str]
    checked: str = ""


class _Reference:
    """The reference's states of the check signal, computed once, if they are needed, on another core if there is one."""

    def __init__(self, weights: Weights, layers: Sequence[int]) -> None:
        self._weights = weights
        self._layers = layers
        self._aside = ThreadPoolExecutor(1, "reference")
        self._states: Future[Array] | None = None

    def begin(self) -> None:
        """Begin to compute them."""
        if self._states is None:
            self._states = self._aside.submit(lambda: NumpyBackend(self._weights, self._layers).embed(check_signal()[None]))

    def states(self) -> Array:
        """Return them, (1, layers, hidden)."""
        self.begin()
        assert self._states is not None
        return self._states.result()

    def close(self) -> None:
        """Wait for what was begun."""
        self._aside.shutdown()


def choose(
    choice: str,
    weights: Weights,
    layers: Sequence[int],
    excluded: Mapping[str, str] | None = None,
    trying: Callable[[str, tuple[str, ...]], object] = lambda *_: None,
    window: int = 0,
    precision: str = "auto",
    check: bool = False,
) -> Chosen:
    """Return the first candidate that starts and agrees with the reference. Raises `BackendError` if none does.

    `window`: samples of the windows that it is prepared for, and at whose size its formulations must agree; 0 for neither.
    `precision`: auto (what is fastest), float32 or bfloat16. `check`: compare it also if it passed before on this machine.
    `excluded`: candidates that are not tried, and why. `trying` is called with each candidate and those after it before the
    candidate starts, because a native library can end the process.
    """
    rejected: dict[str, str] = dict(excluded or {})
    names = [name for name in candidates(choice, precision) if name not in rejected]
    reference = _Reference(weights, layers)
    try:
        for at, name in enumerate(names):
            trying(name, tuple(names[at + 1 :]))
            try:
                backend = FACTORIES[name](weights, layers, precision)
                stamp = CheckStamp(backend, weights, layers, window) if window else None
                if stamp and not check and (passed := stamp.read()):
                    _prepare(backend, window)
                    said = f"self-check passed before on this machine, {passed.at}, with cosine {passed.agreement:.6f}; "
                    return Chosen(backend, passed.agreement, rejected, f"{said}--check repeats it")
                lowest, is_clean = _check(backend, window, reference, rejected)
            except BackendError as error:
                rejected[name] = str(error)
                continue
            return Chosen(backend, lowest, rejected, _note(stamp if is_clean else None, lowest))
    finally:
        reference.close()
    raise BackendError("no backend can run: " + "; ".join(f"{name}: {reason}" for name, reason in rejected.items()))


def _check(backend: Backend, window: int, reference: _Reference, rejected: dict[str, str]) -> tuple[float, bool]:
    """Compare a backend with the reference and prepare it. Return the lowest cosine, and whether all its formulations agree.

    Those that do not are added to `rejected`, and no longer used.
    """
    reference.begin()
    lowest = agreement(run_check(backend), reference.states(), least_cosine(backend))
    if not window:
        return lowest, True
    with foreign_errors(f"cannot be prepared for windows of {window:,} samples"):
        unsafe = backend.check_size(window)
    _prepare(backend, window)
    if unsafe:
        rejected |= unsafe
        lowest = agreement(run_check(backend), reference.states(), least_cosine(backend))  # of what it uses now
        _prepare(backend, window)
    return lowest, not unsafe


def _prepare(backend: Backend, window: int) -> None:
    """Prepare for windows of `window` samples."""
    with foreign_errors(f"cannot be prepared for windows of {window:,} samples"):
        backend.prepare(window)


def _note(stamp: CheckStamp | None, lowest: float) -> str:
    """Note that a check was passed, for the next start. Return what to say about it."""
    said = f"self-check passed with cosine {lowest:.6f}"
    if stamp is None:
        return said
    try:
        stamp.write(lowest)
    except CacheUnusableError as error:
        return f"{said}; the next start repeats it, because nothing can be kept: {error}"
    return said
