"""The Core ML package that holds the network: written here, so that any Core ML program can load it, and checked when it comes
from elsewhere.

coremltools is imported inside functions only and kept quiet, and its errors become `BackendError`. A package has one fixed
window length.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from mertd.embed.backends import mil_ops
from mertd.embed.backends.mil_neural_ops import NeuralMilOps
from mertd.embed.weights.tensors import LICENCE, Weights
from mertd.errors import BackendError, UsageError

Target = Literal["macos14", "macos15"]
"""Oldest system that a package runs on."""

Processor = Literal["gpu", "neural-engine"]
"""What a package is shaped for."""

SUFFIX = ".mlpackage"
"""Suffix of a package, which is a folder."""

AUTHOR = "MERT by Li et al. 2024, arXiv 2306.00107; converted by mertd"
"""What a package names as its author."""

BROKEN_PASS = "common::fuse_elementwise_to_batchnorm"
"""A pass of coremltools 9 that fails on float16: it gives the operation that it makes a mean in float32."""

MAX_PACKAGE_ITEMS = 64
"""Files and folders in a package that is accepted from elsewhere; one that mertd writes has 6."""

MAX_PACKAGE_BYTES = 2 << 30
"""Size of a package that is accepted from elsewhere; in float32 the network has 380 MB."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars on stderr and warnings while the block calls coremltools.

    stderr belongs to the whole process: what another thread prints there meanwhile is lost, too.
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


def export(
    weights: Weights,
    path: Path,
    layers: Sequence[int],
    window_samples: int,
    target: Target = "macos14",
    processor: Processor = "gpu",
) -> None:
    """Write a Core ML package: `input_values`, (1, window_samples) -> `hidden_states`, (layers, hidden), both float32.

    The input is 24 kHz and normalised as `mertd.embed.audio.normalise` does. `layers`: which states, ascending. `macos14` runs
    on macOS 14 and iOS 17 or later; `macos15` needs macOS 15 or iOS 18 and has fused attention. `processor`: whose shapes the
    program has; it runs on any. A package at `path` is
    replaced, and only once the new one is complete. Raises `UsageError` for arguments that do not fit the network,
    `BackendError` if coremltools is not installed or fails, or if the package cannot be written.
    """
    architecture = weights.architecture
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a Core ML package is named *{SUFFIX}")
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > architecture.layers:
        raise UsageError(f"layers are ascending numbers from 0 to {architecture.layers}, not {list(layers)}")
    if window_samples < architecture.shortest:
        raise UsageError(f"a window of {window_samples} samples is too short: the network needs {architecture.shortest}")
    if not path.parent.is_dir():
        raise BackendError(f"cannot write {path}: directory {path.parent} does not exist; create it first")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as work:
            package = Path(work, "package" + SUFFIX)
            _convert(weights, Path(work), layers, window_samples, target, processor).save(str(package))
            for item in package.rglob("*"):
                item.chmod(0o755 if item.is_dir() else 0o644)  # coremltools leaves them private, and packages are passed on
            replace_folder(path, package, Path(work, "replaced"))
    except OSError as error:
        raise BackendError(f"cannot write {path}: {error.strerror or error}") from error


def check_package(path: Path) -> None:
    """Raise `UsageError` if `path` is not a folder, holds links or devices, or more or larger files than a package of MERT.

    mertd reads none of the files itself; Core ML does.
    """
    if not path.is_dir():
        raise UsageError(f"no Core ML package at {path}")
    items = 0
    size = 0
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            found = Path(folder, name).lstat()
            items += 1
            size += found.st_size
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise UsageError(f"{path} is not a Core ML package: it holds something that is neither a file nor a folder")
            if items > MAX_PACKAGE_ITEMS or size > MAX_PACKAGE_BYTES:
                raise UsageError(
                    f"{path} is not a Core ML package of MERT: it has more than {MAX_PACKAGE_ITEMS} files and folders, "
                    f"or more than {MAX_PACKAGE_BYTES:,} bytes"
                )


def _ops(weights: Weights, length: int, target: Target, processor: Processor) -> mil_ops.MilOps:
    if processor == "neural-engine":
        return NeuralMilOps(weights.architecture, weights.tensors, length)
    return mil_ops.MilOps(weights.tensors, fused=target == "macos15")


def _convert(weights: Weights, work: Path, layers: Sequence[int], length: int, target: Target, processor: Processor) -> Any:
    """Return the `coremltools.models.MLModel`, with its description, but not loaded; its files are in `work`."""
    with quiet():
        try:
            import coremltools as ct
        except ImportError as error:
            raise BackendError(f"coremltools is not installed here ({error})") from error
        pipeline = ct.PassPipeline.DEFAULT
        pipeline.remove_passes({BROKEN_PASS})
        opset = ct.target.iOS18 if target == "macos15" else ct.target.iOS17
        try:
            program = mil_ops.build(weights.architecture, length, layers, opset, _ops(weights, length, target, processor))
            model = ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=opset,
                compute_precision=ct.precision.FLOAT32,  # as `mil_ops` wrote it: no cast is added
                skip_model_load=True,
                pass_pipeline=pipeline,
                package_dir=str(work / ("converted" + SUFFIX)),
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise BackendError(f"coremltools cannot convert the network: {first_line(error)}") from error
    kind = "trained" if weights.trained else "random, untrained"
    model.author = AUTHOR
    model.license = f"{LICENCE} (weights)" if weights.trained else "random weights: nothing of the original, no licence needed"
    model.short_description = f"MERT-v1-95M: mean-pooled hidden states of {length} samples at 24 kHz; {kind} weights"
    model.input_description[mil_ops.INPUT] = "One window of mono audio, float32, 24 kHz, with zero mean and unit variance"
    model.output_description[mil_ops.OUTPUT] = f"Hidden states {joined(layers)}, each averaged over time"
    metadata = {"weights": weights.digest, "trained": str(weights.trained).lower(), "layers": joined(layers)}
    metadata |= {"window_samples": str(length), "target": target, "processor": processor}
    for key, value in metadata.items():
        model.user_defined_metadata[f"mertd.{key}"] = value
    return model


def replace_folder(path: Path, new: Path, old: Path) -> None:
    """Move the folder `new` to `path`, and a folder that is there to `old`. All three are on one file system."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def first_line(error: Exception) -> str:
    """Return the first line of the error's text, or its class."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def joined(layers: Sequence[int], separator: str = ",") -> str:
    """Return the numbers of the layers as text."""
    return separator.join(map(str, layers))
