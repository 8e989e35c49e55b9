"""The GPU kernels, run on the CPU within the whole network, against the reference."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest

from mertd.embed import kernels
from mertd.embed.architecture import MERT_95M, TINY
from mertd.embed.audio import normalise
from mertd.embed.backends import NumpyBackend, cosines
from mertd.embed.network import hidden_states
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from signals import chord_progression

mx = pytest.importorskip("mlx.core")
STATES = tuple(range(TINY.states))
KERNELS = ("MOMENTS", "TAPS", "FIRST", "NEXT")


@pytest.fixture(scope="module", params=["random:0?size=tiny", "random:1?size=tiny&outliers=1"])
def weights(request: pytest.FixtureRequest) -> Weights:
    if shutil.which("g++") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs g++")
    return load(request.param)


def fused(weights: Weights, samples: np.ndarray) -> np.ndarray:
    from embed.kernel_emulator import EmulatedOps

    ops = EmulatedOps(weights.tensors)
    return np.array(hidden_states(ops, TINY, mx.array(samples), samples.shape[1], STATES))


@pytest.mark.slow
# One frame; one row more and less of each convolution; tiles of the first one that end in the middle.
@pytest.mark.parametrize("length", [MERT_95M.shortest, 719, 720, 1_041, 4_001, 24_000])
def test_the_fused_network_is_the_references(weights: Weights, length: int) -> None:
    samples = np.stack([normalise(chord_progression(1.1, seed=seed)[:length]) for seed in (0, 1, 2)])
    reference = NumpyBackend(weights, STATES).embed(samples)
    states = fused(weights, samples)
    assert states.shape == reference.shape
    assert cosines(states, reference).min() > 0.9999


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(9_600),
        np.full(9_600, 0.7),
        np.eye(1, 9_600, 4_800)[0],
        np.clip(chord_progression(0.4) * 50, -1, 1),
        np.sin(np.arange(9_600) * (2 * np.pi * 7 / 24_000)) + 3e-3 * chord_progression(0.4),
    ],
    ids=["silence", "direct current", "impulse", "clipped", "rumble"],
)
def test_awkward_windows(weights: Weights, sound: np.ndarray) -> None:
    samples = normalise(sound.astype(np.float32))[None]
    states, reference = fused(weights, samples), NumpyBackend(weights, STATES).embed(samples)
    assert np.isfinite(states).all()
    assert cosines(states, reference).min() > 0.999


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dialect", [kernels.CUDA, kernels.METAL], ids=["cuda", "metal"])
def test_every_dialect_supplies_what_the_common_text_uses(kernel: str, dialect: kernels.Dialect) -> None:
    """No compiler for either is at hand here: at least nothing that the CPU's dialect defines may be missing."""
    from embed.kernel_emulator import CPU

    def defined(prelude: str) -> set[str]:
        return set(re.findall(r"#define (\w+)|typedef .* (\w+);|struct .*(Half4)", prelude))

    assert defined(CPU.prelude) == defined(dialect.prelude)
    text = dialect.body(getattr(kernels, kernel), {"LENGTH": 10, "EPSILON": 1e-5})
    assert "THREAD" not in text
    assert "const int LENGTH = 10;" in text
    assert dialect.thread in text
