"""What is known of m-a-p/MERT-v1-95M at revision 12af15fef9d0, held against what mertd assumes."""

from __future__ import annotations

import math

import numpy as np

from mertd.defaults import SAMPLE_RATE
from mertd.embed.architecture import MERT_95M, POSITIONAL
from mertd.embed.audio import normalise
from mertd.embed.weights.checkpoint import ORIGINAL


def test_the_checkpoint() -> None:
    assert ORIGINAL.size == 377_552_987
    assert ORIGINAL.sha256 == "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd"


def test_the_values_of_its_211_tensors() -> None:
    """Folding the weight norm makes one tensor of two, and the mask embedding is not used."""
    shapes = MERT_95M.tensors
    assert len(shapes) == 209 == 211 - 1 - 1
    folded = sum(math.prod(shape) for shape in shapes.values())
    mask_embedding, gains = MERT_95M.hidden, MERT_95M.positional_kernel
    assert folded + mask_embedding + gains == 94_371_712


def test_its_configuration() -> None:
    """feat_extract_norm group, conv_bias false, layer_norm_eps 1e-5, positional convolution 128 with 16 groups."""
    shapes = MERT_95M.tensors
    convolutions = [name for name in shapes if name.startswith("feature_extractor.conv_layers")]
    assert [name for name in convolutions if name.endswith("conv.bias")] == []
    assert [name for name in convolutions if "layer_norm" in name] == [
        "feature_extractor.conv_layers.0.layer_norm.weight",
        "feature_extractor.conv_layers.0.layer_norm.bias",
    ]
    assert shapes[f"{POSITIONAL}.weight"] == (768, 128, 48), "(out, kernel, in)"
    assert (MERT_95M.positional_kernel, MERT_95M.positional_groups) == (128, 16)
    assert MERT_95M.epsilon == 1e-5
    assert (MERT_95M.layers, MERT_95M.heads, MERT_95M.hidden, MERT_95M.feed_forward) == (12, 12, 768, 3_072)
    assert SAMPLE_RATE == 24_000


def test_its_normalisation() -> None:
    """do_normalize: zero mean and unit variance, with 1e-7 added to the variance."""
    samples = np.random.default_rng(0).normal(0.3, 1e-4, 24_000).astype(np.float32)
    wide = samples.astype(np.float64)
    expected = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)
    assert np.allclose(normalise(samples), expected, atol=1e-6)
    assert normalise(samples).std() < 0.5, "the epsilon tells for a quiet window"


def test_frames_of_a_window() -> None:
    assert MERT_95M.lengths(30 * SAMPLE_RATE) == [143_999, 71_999, 35_999, 17_999, 8_999, 4_499, 2_249]
