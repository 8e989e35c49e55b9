"""Core ML: the package that any Core ML program can load, and the backend that runs it here.

This file is the one gate to coremltools, which is imported inside functions only, kept quiet, and whose errors become
`BackendError`. A package has one fixed window length; the backend compiles one for each length it is asked for, once, into a
cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import logging
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs
from numpy.typing import NDArray

from mertd.embed import network, ops_mil
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError, UsageError

Array = NDArray[np.float32]
Target = Literal["macos14", "macos15"]
ComputeUnits = Literal["ALL", "CPU_AND_GPU", "CPU_AND_NE", "CPU_ONLY"]
SUFFIX = ".mlpackage"
AUTHOR = "MERT by Li et al. 2024, arXiv 2306.00107; converted by mertd"
LICENCE = "CC-BY-NC-4.0"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Around coremltools alone: no progress bars on stderr, no warnings about libraries that mertd does not use.

    stderr is that of the whole process, so what another thread prints there meanwhile is lost too.
    """
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def export(weights: Weights, path: Path, layers: Sequence[int], window_samples: int, target: Target = "macos14") -> None:
    """Write a Core ML package: `input_values`, (1, window_samples) -> `hidden_states`, (layers, hidden), both float32.

    The input is 24 kHz and normalised as `mertd.embed.audio.normalise` does. `layers`: which states, ascending. `macos14` runs
    on macOS 14 and iOS 17 or later; `macos15` needs macOS 15 or iOS 18 and has fused attention. What was at `path` is replaced,
    and only by a whole package. Raises `UsageError` for a request that makes no sense, `BackendError` if coremltools is not
    installed or fails, or if the package cannot be written.
    """
    architecture = weights.architecture
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a Core ML package is named *{SUFFIX}")
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > architecture.layers:
        raise UsageError(f"layers are ascending numbers from 0 to {architecture.layers}, not {list(layers)}")
    if window_samples < architecture.shortest:
        raise UsageError(f"a window of {window_samples} samples is too short: the network needs {architecture.shortest}")
    if not path.parent.is_dir():
        raise BackendError(f"cannot write {path}: there is no folder {path.parent}")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as work:
            package = Path(work, "package" + SUFFIX)
            _convert(weights, Path(work), layers, window_samples, target).save(str(package))
            for item in package.rglob("*"):
                item.chmod(0o755 if item.is_dir() else 0o644)  # coremltools leaves them private, and packages are passed on
            _replace(path, package, Path(work, "replaced"))
    except OSError as error:
        raise BackendError(f"cannot write {path}: {error.strerror or error}") from error


def _convert(weights: Weights, work: Path, layers: Sequence[int], length: int, target: Target) -> Any:
    """The `coremltools.models.MLModel`, described but not loaded; its files are in `work`."""
    with quiet():
        try:
            import coremltools as ct
        except ImportError as error:
            raise BackendError(f"coremltools is not installed here ({error})") from error
        opset = ct.target.iOS18 if target == "macos15" else ct.target.iOS17
        try:
            program = ops_mil.build(weights.architecture, weights.tensors, length, layers, opset, fused=target == "macos15")
            model = ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=opset,
                compute_precision=ct.precision.FLOAT32,  # as `ops_mil` wrote it: no cast is added
                skip_model_load=True,
                package_dir=str(work / ("converted" + SUFFIX)),
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise BackendError(f"coremltools cannot convert the network: {_first_line(error)}") from error
    kind = "trained" if weights.trained else "random, untrained"
    model.author = AUTHOR
    model.license = f"{LICENCE} (weights)" if weights.trained else "random weights: none of the original's, no licence needed"
    model.short_description = f"MERT-v1-95M: mean-pooled hidden states of {length} samples at 24 kHz; {kind} weights"
    model.input_description[ops_mil.INPUT] = "One window of mono audio, float32, 24 kHz, with zero mean and unit variance"
    model.output_description[ops_mil.OUTPUT] = f"Hidden states {_joined(layers)}, each averaged over time"
    facts = {"weights": weights.digest, "trained": str(weights.trained).lower(), "layers": _joined(layers)}
    facts |= {"window_samples": str(length), "target": target}
    for key, value in facts.items():
        model.user_defined_metadata[f"mertd.{key}"] = value
    return model


def compiled_cache_path(
    digest: str, layers: Sequence[int], window_samples: int, target: Target, build: str, version: str, root: Path | None = None
) -> Path:
    """Where the compiled form of a package is kept. Nothing is created.

    `digest`: of the weights; `build`: of the operating system; `version`: of coremltools; `root`: the cache folder, mertd's own
    unless given. The name also carries a fingerprint of the code that writes the program, so that no change of it is missed.
    """
    if root is None:
        root = Path(platformdirs.user_cache_dir("mertd")) / "coreml"
    code = hashlib.sha256((inspect.getsource(network) + inspect.getsource(ops_mil)).encode()).hexdigest()
    folder = f"{digest[:16]}-{_joined(layers, '.')}-{window_samples}"
    return root / folder / f"{target}-{build}-{version}-{code[:8]}.mlmodelc"


class CoreMLBackend:
    """Core ML on this Mac, one window per call, float16 on the GPU unless other `compute_units` are allowed."""

    name, precision, max_batch = "coreml", "float16", 1

    def __init__(
        self,
        weights: Weights,
        layers: Sequence[int],
        compute_units: ComputeUnits = "CPU_AND_GPU",
        target: Target | None = None,
        cache: Path | None = None,
    ) -> None:
        """`target`: the newest that this macOS runs, unless given. `cache`: folder of compiled packages, unless mertd's own.

        Raises `BackendError`, with the reason, where Core ML cannot run.
        """
        self._release = macos_release()
        self._tools = _runtime()
        self._weights, self._layers, self._cache = weights, layers, cache
        self._target: Target = target or ("macos15" if self._release >= 15 else "macos14")
        self._units = getattr(self._tools.ComputeUnit, compute_units)
        self.device = compute_units.lower()
        self._length = 0
        self._model: Any = None

    def prepare(self, length: int) -> None:
        """Load the form for windows of `length` samples; if it is not in the cache yet, export and compile it first.

        Raises `BackendError` if Core ML refuses it.
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
                log.warning("compiling again, since the cached Core ML model does not load: %s", error)
                shutil.rmtree(path, ignore_errors=True)
        if self._model is None:
            self._fill(path, length)
            self._model = _load(self._tools, path, self._units)
        self._length = length

    def embed(self, windows: Array) -> Array:
        """Normalised windows, (batch, samples) -> (batch, layers, hidden). Raises `BackendError` if Core ML fails."""
        self.prepare(windows.shape[1])
        return np.stack([_predict(self._model, window) for window in windows])

    def _fill(self, path: Path, length: int) -> None:
        """Export and compile into `path`, whole or not at all; forms for the same windows that it supersedes are removed."""
        log.info("compiling the network for Core ML, windows of %d samples: once for this macOS", length)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".compiling.", dir=path.parent) as work:
                package, compiled = Path(work, "model" + SUFFIX), Path(work, path.name)
                export(self._weights, package, self._layers, length, self._target)
                _compile(self._tools, package, compiled)
                _replace(path, compiled, Path(work, "replaced"))
            for old in path.parent.glob("*.mlmodelc"):
                if old != path:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise BackendError(f"cannot keep the compiled model in {path.parent}: {error.strerror or error}") from error


def run_package(path: Path, window: Array, compute_units: ComputeUnits = "CPU_AND_GPU") -> Array:
    """Run any package with this module's input and output names, on this Mac: (samples,) normalised -> (layers, hidden).

    Raises `UsageError` if nothing is at `path`, `BackendError` where Core ML cannot run or refuses package or window.
    """
    macos_release()
    tools = _runtime()
    if not path.is_dir():
        raise UsageError(f"no Core ML package at {path}")
    with tempfile.TemporaryDirectory() as work:
        compiled = Path(work, "model.mlmodelc")
        _compile(tools, path, compiled)
        return _predict(_load(tools, compiled, getattr(tools.ComputeUnit, compute_units)), window)


def macos_release() -> int:
    """Major version of this macOS, 14 or later; `BackendError` anywhere else."""
    if platform.system() != "Darwin":
        raise BackendError(f"Core ML runs on macOS 14 or later, and this is {platform.system()}")
    release = int(platform.mac_ver()[0].split(".")[0])
    if release < 14:
        raise BackendError(f"Core ML needs macOS 14 or later here, and this is macOS {platform.mac_ver()[0]}")
    return release


def os_build() -> str:
    """Build of this macOS, such as 24D60: compiled models are only known to fit the build that compiled them."""
    return subprocess.run(["sw_vers", "-buildVersion"], capture_output=True, text=True, check=True).stdout.strip()


def _runtime() -> Any:
    """The coremltools module, if it can run models."""
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
        return np.asarray(model.predict({ops_mil.INPUT: window[None]})[ops_mil.OUTPUT], np.float32)


@contextlib.contextmanager
def _foreign(what: str) -> Iterator[None]:
    """Whatever coremltools raises in here becomes a `BackendError`; it raises plain `Exception` for most failures."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise BackendError(f"{what}: {_first_line(error)}") from error


def _replace(path: Path, new: Path, old: Path) -> None:
    """Put the folder `new` at `path`; a folder that is there goes to `old`. All three on one file system."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _joined(layers: Sequence[int], separator: str = ",") -> str:
    return separator.join(map(str, layers))
