"""One network, several implementations of its operations: each gives the states of the numpy reference, and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mertd.embed.architecture import MERT_95M, POSITIONAL, TINY, conv_layer, encoder_layer
from mertd.embed.audio import normalise
from mertd.embed.backends.backend import Backend
from mertd.embed.backends.choice import cpu_has_bfloat16
from mertd.embed.backends.mlx_backend import MlxBackend
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.numpy_ops import NumpyOps, erf
from mertd.embed.backends.onnx_backend import OnnxBackend
from mertd.embed.backends.onnx_ops import build
from mertd.embed.backends.openvino_backend import OpenVinoBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.network import hidden_states
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from signals import chord_progression

Array = NDArray[np.float32]
STATES = tuple(range(TINY.states))
SHORTEST = MERT_95M.shortest  # 400 samples give one frame
LENGTHS = [SHORTEST, SHORTEST + 1, 719, 720, 4_001, pytest.param(24_000, marks=pytest.mark.slow), 30_007]

Make = Callable[[Weights, Sequence[int]], Backend]
BACKENDS: dict[str, tuple[Make, float]] = {
    # How far the states may be from the reference, in units of their own size: float32 rounding, or float16's.
    "onnx": (OnnxBackend, 1e-4),
    "openvino float32": (lambda w, layers: OpenVinoBackend(w, layers, "float32"), 1e-4),
    "openvino bfloat16": (lambda w, layers: OpenVinoBackend(w, layers, "bfloat16"), 2e-2),
    "mlx float32 conv1d": (lambda w, layers: MlxBackend(w, layers, "float32", "conv1d"), 1e-4),
    "mlx float32 product": (lambda w, layers: MlxBackend(w, layers, "float32", "product"), 1e-4),
    "mlx float16 conv1d": (lambda w, layers: MlxBackend(w, layers, "float16", "conv1d"), 2e-2),
    "mlx float16 product": (lambda w, layers: MlxBackend(w, layers, "float16", "product"), 2e-2),
}


@pytest.fixture(scope="module", params=["random:0?size=tiny", "random:1?size=tiny&outliers=1"])
def weights(request: pytest.FixtureRequest) -> Weights:
    return load(request.param)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, weights: Weights) -> tuple[Backend, float]:
    make, tolerance = BACKENDS[request.param]
    if "mlx" in request.param:
        pytest.importorskip("mlx.core")
    if "openvino" in request.param:
        pytest.importorskip("openvino")
    if "bfloat16" in request.param and not cpu_has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    return make(weights, STATES), tolerance


def window(length: int, seed: int = 0) -> Array:
    return normalise(chord_progression(length / 24_000 + 0.01, seed=seed)[:length])


def distance(states: Array, reference: Array) -> float:
    """Largest relative distance over windows and layers."""
    size = np.linalg.norm(reference, axis=-1)
    return float((np.linalg.norm(states.astype(np.float64) - reference, axis=-1) / size).max())


@pytest.mark.parametrize("length", LENGTHS)
def test_every_layer_is_the_references(weights: Weights, backend: tuple[Backend, float], length: int) -> None:
    runner, tolerance = backend
    samples = window(length)[None]
    reference = NumpyBackend(weights, STATES).embed(samples)
    states = runner.embed(samples)
    assert states.dtype == np.float32
    assert states.shape == reference.shape == (1, TINY.states, TINY.hidden)
    assert distance(states, reference) < tolerance
    assert cosines(states, reference).min() > 1 - tolerance**2 * 10


def test_a_batch_is_its_windows_one_by_one(backend: tuple[Backend, float]) -> None:
    runner, tolerance = backend
    batch = np.stack([window(6_000, seed) * gain for seed, gain in ((0, 1), (1, 1), (2, 0.5))]).astype(np.float32)
    together = runner.embed(batch)
    alone = np.concatenate([runner.embed(one[None]) for one in batch])
    assert together.shape == (3, TINY.states, TINY.hidden)
    assert distance(together, alone) < tolerance
    assert distance(together[::-1], alone) > 0.01, "the windows differ"


AWKWARD = {
    "silence": np.zeros(9_600, np.float32),
    "direct current": np.full(9_600, 0.7, np.float32),
    "quiet": chord_progression(0.4) * np.float32(1e-4),
    "very quiet": chord_progression(0.4) * np.float32(1e-20),
    "loud": chord_progression(0.4) * np.float32(1e6),
    "clipped": np.clip(chord_progression(0.4) * 50, -1, 1),
    "impulse": np.eye(1, 9_600, 4_800, dtype=np.float32)[0],
    "one step": np.repeat(np.array([-1, 1], np.float32), 4_800),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_windows_give_finite_states(weights: Weights, backend: tuple[Backend, float], name: str) -> None:
    runner, tolerance = backend
    samples = normalise(AWKWARD[name])[None]
    assert np.isfinite(samples).all()
    states, reference = runner.embed(samples), NumpyBackend(weights, STATES).embed(samples)
    assert np.isfinite(states).all()
    assert distance(states, reference) < 10 * tolerance, "rounding counts for more where there is little to hear"


@pytest.mark.parametrize("layers", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_some_layers_are_those_of_all(weights: Weights, layers: tuple[int, ...]) -> None:
    samples = window(4_001)[None]
    everything = NumpyBackend(weights, STATES).embed(samples)
    for name, (make, tolerance) in {"numpy": (NumpyBackend, 1e-7), "onnx": BACKENDS["onnx"]}.items():
        some = make(weights, layers).embed(samples)
        assert some.shape == (1, len(layers), TINY.hidden)
        assert distance(some, everything[:, layers]) < tolerance, name


class Watched(dict[str, Any]):
    """Tensors that record which of them were read."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        super().__init__(tensors)
        self.touched: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.touched.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("layers", [(0,), (1,), (2,), (0, 1)])
@pytest.mark.parametrize("how", ["numpy", "onnx"])
def test_layers_that_are_not_requested_are_not_computed(weights: Weights, how: str, layers: tuple[int, ...]) -> None:
    tensors = Watched({name: tensor.astype(np.float32) for name, tensor in weights.tensors.items()})
    if how == "numpy":
        hidden_states(NumpyOps(tensors), TINY, window(800)[None], 800, layers)
    else:
        build(TINY, tensors, 800, layers)
    deeper = tuple(f"{encoder_layer(index)}." for index in range(max(layers), TINY.layers))
    assert tensors.touched == {name for name in TINY.tensors if not name.startswith(deeper)}


def test_the_first_convolution_folds_its_norm_exactly(weights: Weights) -> None:
    """Compared with the definition: convolve, then normalise each channel over the window, in float64."""
    samples = window(2_000).astype(np.float64) * 3 + 0.5
    name = conv_layer(0)
    kernel = weights.tensors[f"{name}.conv.weight"].astype(np.float64)[:, :, 0]
    plain = np.lib.stride_tricks.sliding_window_view(samples, 10)[::5] @ kernel.T
    norm = (plain - plain.mean(axis=0)) / np.sqrt(plain.var(axis=0) + TINY.epsilon)
    gamma, beta = (weights.tensors[f"{name}.layer_norm.{part}"].astype(np.float64) for part in ("weight", "bias"))

    class Stop(NumpyOps):
        def gelu(self, x: Array) -> Array:
            raise StopIteration(x)

    ops = Stop({n: t.astype(np.float32) for n, t in weights.tensors.items()})
    with pytest.raises(StopIteration) as first:
        hidden_states(ops, TINY, samples.astype(np.float32)[None], 2_000, (0,))
    assert np.allclose(first.value.value[0], norm * gamma + beta, atol=5e-4)


def test_the_positional_convolution_looks_both_ways_and_drops_the_last_frame(weights: Weights) -> None:
    ops = NumpyOps({n: t.astype(np.float32) for n, t in weights.tensors.items()})
    frames, at = 101, 50
    impulse = np.zeros((1, frames, TINY.hidden), np.float32)
    impulse[0, at, 3] = 1
    out = ops.positional(impulse, POSITIONAL, TINY.positional_groups) - weights.tensors[f"{POSITIONAL}.bias"]
    assert out.shape == impulse.shape
    reached = np.flatnonzero(np.abs(out[0]).max(axis=1) > 1e-6)
    half = TINY.positional_kernel // 2
    assert (reached[0], reached[-1]) == (at - half + 1, at + half)
    group = TINY.hidden // TINY.positional_groups
    assert np.abs(out[0, :, group:]).max() < 1e-6, "channel 3 is of the first group"


def test_erf_is_good_to_single_precision() -> None:
    from math import erf as exact

    x = np.linspace(-5, 5, 2_001, dtype=np.float32)
    assert np.abs(erf(x) - [exact(float(v)) for v in x]).max() < 6e-7
