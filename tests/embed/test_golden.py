"""Every backend, at full size and on every layer, against what PyTorch computed (tests/reference/make_golden.py)."""

from __future__ import annotations

import numpy as np
import pytest

from golden import WEIGHTS, clip, golden
from mertd.embed.architecture import MERT_95M
from mertd.embed.backends.backend import Backend
from mertd.embed.backends.mlx_backend import MlxBackend
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.onnx_backend import OnnxBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights

ALL = range(MERT_95M.states)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load(WEIGHTS)


@pytest.mark.parametrize(
    ("backend", "seconds", "least"),
    [
        pytest.param(NumpyBackend, 5, 0.999999, marks=pytest.mark.slow),
        (OnnxBackend, 1, 0.99999),
        pytest.param(OnnxBackend, 5, 0.99999, marks=pytest.mark.slow),
        pytest.param(MlxBackend, 1, 0.99999, marks=pytest.mark.slow),
    ],
)
def test_backend_agrees_with_pytorch(weights: Weights, backend: type[Backend], seconds: int, least: float) -> None:
    got = backend(weights, ALL).embed(clip(seconds)[None])[0]  # type: ignore[call-arg]
    assert got.shape == golden(seconds).shape == (13, 768)
    assert cosines(got, golden(seconds)).min() >= least
    np.testing.assert_allclose(got, golden(seconds), atol=2e-4)


def test_golden_layers_differ() -> None:
    """Otherwise swapped layers, or clips, would pass as agreement."""
    states = np.concatenate([golden(1), golden(5)])
    likeness = cosines(states[:, None], states[None])
    assert likeness[~np.eye(len(states), dtype=bool)].max() < 0.9999
