"""The Core ML backend: runs the network on this Mac.

This file is the one gate to Core ML through coremltools, which is imported inside functions only and kept quiet, and whose
errors become `BackendError`. A compiled model has one window length; the backend compiles one for each length that it is asked
for, once, into a cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs

from mertd.embed import network
from mertd.embed.backends import mil_ops
from mertd.embed.backends.backend import Array, HostMemory
from mertd.embed.backends.coreml_package import (
    SUFFIX,
    Target,
    check_package,
    export,
    first_line,
    joined,
    quiet,
    replace_folder,
)
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

ComputeUnits = Literal["ALL", "CPU_AND_GPU", "CPU_AND_NE", "CPU_ONLY"]
"""Processors that Core ML may use, by their names in coremltools."""

log = logging.getLogger(__name__)


def compiled_cache_path(
    digest: str, layers: Sequence[int], window_samples: int, target: Target, build: str, version: str, root: Path | None = None
) -> Path:
    """Return where the compiled form of a package is kept. Nothing is created.

    `digest`: of the weights; `build`: of the operating system; `version`: of coremltools; `root`: the cache folder, by default
    mertd's own. The name also holds a fingerprint of the code that writes the program, so that any change of it counts.
    """
    if root is None:
        root = Path(platformdirs.user_cache_dir("mertd")) / "coreml"
    code = hashlib.sha256((inspect.getsource(network) + inspect.getsource(mil_ops)).encode()).hexdigest()
    folder = f"{digest[:16]}-{joined(layers, '.')}-{window_samples}"
    return root / folder / f"{target}-{build}-{version}-{code[:8]}.mlmodelc"


class CoreMLBackend(HostMemory):
    """Core ML on this Mac, one window per call, float16 on the GPU unless other `compute_units` are allowed."""

    name = "coreml"
    precision = "float16"
    max_batch = 1

    def __init__(
        self,
        weights: Weights,
        layers: Sequence[int],
        compute_units: ComputeUnits = "CPU_AND_GPU",
        target: Target | None = None,
        cache: Path | None = None,
    ) -> None:
        """`target`: by default the newest that this macOS runs. `cache`: folder of compiled packages, by default mertd's own.

        Raises `BackendError`, with the reason, where Core ML cannot run.
        """
        release = macos_release()
        self._tools = _runtime()
        self._weights = weights
        self._layers = layers
        self._cache = cache
        self._target: Target = target or ("macos15" if release >= 15 else "macos14")
        self._units = getattr(self._tools.ComputeUnit, compute_units)
        self.device = compute_units.lower()
        self._length = 0
        self._model: Any = None

    def prepare(self, length: int) -> None:
        """Load the compiled form for windows of `length` samples; if it is not in the cache, export and compile it first.

        Raises `BackendError` if Core ML cannot compile or load it.
        """
        if length == self._length:
            return
        self._model, self._length = None, 0
        version = self._tools.__version__
        path = compiled_cache_path(self._weights.digest, self._layers, length, self._target, os_build(), version, self._cache)
        if path.is_dir():
            try:
                self._model = _load(self._tools, path, self._units)
            except BackendError as error:
                log.warning("the cached Core ML model does not load and is compiled again: %s", error)
                shutil.rmtree(path, ignore_errors=True)
        if self._model is None:
            self._fill(path, length)
            self._model = _load(self._tools, path, self._units)
        self._length = length

    def check_size(self, length: int) -> Mapping[str, str]:
        """Return nothing: the package has one formulation."""
        del length
        return {}

    def embed(self, windows: Array) -> Array:
        """Return the states of normalised windows, (batch, samples) -> (batch, layers, hidden).

        Raises `BackendError` if Core ML fails.
        """
        self.prepare(windows.shape[1])
        return np.stack([_predict(self._model, window) for window in windows])

    def _fill(self, path: Path, length: int) -> None:
        """Export and compile into `path`, completely or not at all, and remove older compiled forms for the same windows."""
        log.info("compiling the network for Core ML, windows of %d samples: once per version of macOS", length)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".compiling.", dir=path.parent) as work:
                package, compiled = Path(work, "model" + SUFFIX), Path(work, path.name)
                export(self._weights, package, self._layers, length, self._target)
                _compile(self._tools, package, compiled)
                replace_folder(path, compiled, Path(work, "replaced"))
            for old in path.parent.glob("*.mlmodelc"):
                if old != path:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise BackendError(f"cannot keep the compiled model in {path.parent}: {error.strerror or error}") from error


@contextlib.contextmanager
def loaded_package(path: Path, compute_units: ComputeUnits = "CPU_AND_GPU") -> Iterator[Callable[[Array], Array]]:
    """Yield a function that runs a package with the input and output names of `mil_ops` on this Mac.

    It takes a normalised window, (samples,), and returns its states, (layers, hidden). Raises `UsageError` if `path` is not a
    package, `BackendError` where Core ML cannot run, or refuses package or window.
    """
    macos_release()
    tools = _runtime()
    check_package(path)
    with tempfile.TemporaryDirectory() as work:
        compiled = Path(work, "model.mlmodelc")
        _compile(tools, path, compiled)
        yield partial(_predict, _load(tools, compiled, getattr(tools.ComputeUnit, compute_units)))


def macos_release() -> int:
    """Return the major version of this macOS. Raises `BackendError` for versions before 14, and on other systems."""
    if platform.system() != "Darwin":
        raise BackendError(f"Core ML runs on macOS 14 or later, and this is {platform.system()}")
    release = int(platform.mac_ver()[0].split(".")[0])
    if release < 14:
        raise BackendError(f"Core ML needs macOS 14 or later here, and this is macOS {platform.mac_ver()[0]}")
    return release


def os_build() -> str:
    """Return the build of this macOS, such as 24D60: a compiled model is used only by the build that compiled it."""
    return subprocess.run(["sw_vers", "-buildVersion"], capture_output=True, text=True, check=True).stdout.strip()


def _runtime() -> Any:
    """Return the coremltools module. Raises `BackendError` if it cannot run models."""
    with quiet():
        try:
            import coremltools
            from coremltools import libcoremlpython  # noqa: F401
        except ImportError as error:
            raise BackendError(f"coremltools is not installed with its native library here ({error})") from error
    return coremltools


def _compile(tools: Any, package: Path, compiled: Path) -> None:
    with _foreign("Core ML cannot compile the package"):
        tools.models.utils.compile_model(str(package), str(compiled))


def _load(tools: Any, compiled: Path, units: Any) -> Any:
    with _foreign("Core ML cannot load the compiled model"):
        return tools.models.CompiledMLModel(str(compiled), compute_units=units)


def _predict(model: Any, window: Array) -> Array:
    with _foreign("Core ML cannot run the model"):
        return np.asarray(model.predict({mil_ops.INPUT: window[None]})[mil_ops.OUTPUT], np.float32)


@contextlib.contextmanager
def _foreign(what: str) -> Iterator[None]:
    """Turn what coremltools raises in the block into `BackendError`; for most failures it raises a plain `Exception`."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise BackendError(f"{what}: {first_line(error)}") from error
