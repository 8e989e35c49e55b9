"""Every backend against `transformers.HubertModel`, live: random weights, and weights with outliers as trained ones have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embed.backends.mil_evaluator import Package
from mertd.defaults import SAMPLE_RATE
from mertd.embed.architecture import MERT_95M
from mertd.embed.audio import normalise
from mertd.embed.backends.backend import Backend
from mertd.embed.backends.coreml_package import export
from mertd.embed.backends.mlx_backend import MlxBackend
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.onnx_backend import OnnxBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from reference.hubert import hubert, states
from signals import sounds

pytestmark = [pytest.mark.reference, pytest.mark.xdist_group("reference")]
ALL = range(MERT_95M.states)
SECONDS = {"numpy": 3.0, "onnx": 3.0, "mlx": 0.4, "mlx-float16": 0.4}  # the CPU build of MLX is slow; golden.npz has 1 s
LEAST = {"numpy": 0.999999, "onnx": 0.99999, "mlx": 0.99999, "mlx-float16": 0.9995}


@dataclass(frozen=True)
class Judge:
    weights: Weights
    model: Any


@pytest.fixture(scope="module", params=["random:0", "random:0?outliers=1"])
def judge(request: pytest.FixtureRequest) -> Judge:
    weights = load(request.param)
    return Judge(weights, hubert(weights))


def backend(name: str, weights: Weights) -> Backend:
    if name == "mlx-float16":
        return MlxBackend(weights, ALL, precision="float16")
    made: Backend = {"numpy": NumpyBackend, "onnx": OnnxBackend, "mlx": MlxBackend}[name](weights, ALL)
    return made


def test_core_ml_package_agrees(judge: Judge, tmp_path: Path) -> None:
    """The saved package, evaluated in its own float16 rounding."""
    seconds = 0.4
    export(judge.weights, tmp_path / "mert.mlpackage", ALL, round(seconds * SAMPLE_RATE))
    package = Package(tmp_path / "mert.mlpackage")
    for sound, samples in sounds(seconds).items():
        window = normalise(samples)
        check(package.run(window), states(judge.model, window), 0.999, sound)


@pytest.mark.parametrize("name", LEAST)
def test_all_layers_agree(judge: Judge, name: str) -> None:
    made = backend(name, judge.weights)
    for sound, samples in sounds(SECONDS[name]).items():
        window = normalise(samples)
        check(made.embed(window[None])[0], states(judge.model, window), LEAST[name], sound)


def check(got: NDArray[np.float32], expected: NDArray[np.float32], least: float, sound: str) -> None:
    assert np.isfinite(got).all(), sound
    assert cosines(got, expected).min() >= least, sound
    # Outlier channels are most of the cosine's length: the others must agree without their help.
    ordinary = np.abs(expected).max(axis=0) < 10 * np.median(np.abs(expected).max(axis=0))
    assert ordinary.sum() > 700
    assert cosines(got[:, ordinary], expected[:, ordinary]).min() >= least, sound
