"""What float16 would break on a GPU, tried in MLX's float16 on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mertd.defaults import SAMPLE_RATE
from mertd.embed.architecture import TINY
from mertd.embed.audio import normalise
from mertd.embed.backends.mlx_backend import MlxBackend
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.loading import load
from signals import chord_progression

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

ALL = range(TINY.states)


@pytest.mark.parametrize("convolutions", ["conv1d", "product"])
def test_high_pass_filters_hear_music_under_rumble(convolutions: str) -> None:
    """With the first product in plain float16, the music drowns in the rounding of the rumble 50 dB above it."""
    weights, name = load("random:0?size=tiny"), "feature_extractor.conv_layers.0.conv.weight"
    taps = np.random.Generator(np.random.PCG64(0)).integers(-9, 10, (TINY.channels, 8))
    kernels = np.stack([np.convolve(row, [1, -2, 1]) for row in taps]) / 64  # exact in float16: no response to a slope
    weights = replace(weights, tensors={**weights.tensors, name: kernels[:, :, None].astype(np.float16)})
    rumble = np.sin(2 * np.pi * 7 * np.arange(SAMPLE_RATE) / SAMPLE_RATE) + 10 ** (-50 / 20) * chord_progression(1)
    window = normalise(rumble.astype(np.float32))
    got = MlxBackend(weights, ALL, "float16", convolutions).embed(window[None])
    assert cosines(got, NumpyBackend(weights, ALL).embed(window[None])).min() > 0.99999
