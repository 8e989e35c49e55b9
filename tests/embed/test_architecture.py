"""Sizes and costs of the network: the known ones of MERT-v1-95M."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.embed.architecture import MERT_95M, TINY, Architecture, conv_layer, encoder_layer

WINDOW = 720_000
"""30 s."""


def test_tensors_are_those_of_the_checkpoint() -> None:
    tensors = MERT_95M.tensors
    assert len(tensors) == 209
    assert sum(int(np.prod(shape)) for shape in tensors.values()) == 94_371_712 - 768 - 128, (
        "HuBERT's, less the mask and the gains"
    )
    assert tensors["feature_extractor.conv_layers.0.conv.weight"] == (512, 10, 1)
    assert tensors["feature_extractor.conv_layers.6.conv.weight"] == (512, 2, 512)
    assert tensors["feature_extractor.conv_layers.0.layer_norm.bias"] == (512,)
    assert "feature_extractor.conv_layers.1.layer_norm.bias" not in tensors
    assert "feature_extractor.conv_layers.0.conv.bias" not in tensors
    assert tensors["encoder.pos_conv_embed.conv.weight"] == (768, 128, 48)
    assert tensors["encoder.layers.11.feed_forward.intermediate_dense.weight"] == (3072, 768)
    assert tensors["encoder.layers.11.feed_forward.output_dense.weight"] == (768, 3072)
    assert len([name for name in tensors if name.startswith("encoder.layers.3.")]) == 16
    assert "masked_spec_embed" not in tensors


def test_frames_of_a_window() -> None:
    assert MERT_95M.lengths(WINDOW) == [143_999, 71_999, 35_999, 17_999, 8_999, 4_499, 2_249]
    assert MERT_95M.states == 13


def test_the_shortest_window_gives_one_frame() -> None:
    assert MERT_95M.shortest == 400
    assert MERT_95M.lengths(400)[-1] == 1
    assert MERT_95M.lengths(399)[-1] == 0


@given(samples=st.integers(400, 100_000))
def test_lengths_are_those_of_convolutions(samples: int) -> None:
    """The last frame fits, and one more would not."""
    lengths = [samples, *MERT_95M.lengths(samples)]
    for before, after, kernel, stride in zip(lengths, lengths[1:], MERT_95M.kernels, MERT_95M.strides, strict=False):
        assert (after - 1) * stride + kernel <= before < after * stride + kernel


def test_cost_of_a_window() -> None:
    """GFLOP as measured while planning: 810 for all states, 525 for layer 6, 47 for a layer, 220 + 21 before the layers."""
    giga = 1e9
    assert MERT_95M.flops(WINDOW) / giga == pytest.approx(810, rel=0.01)
    assert MERT_95M.flops(WINDOW, 6) / giga == pytest.approx(525, rel=0.01)
    assert (MERT_95M.flops(WINDOW, 1) - MERT_95M.flops(WINDOW, 0)) / giga == pytest.approx(47.5, abs=0.5)
    assert MERT_95M.flops(WINDOW, 12) == MERT_95M.flops(WINDOW)
    assert MERT_95M.flops(WINDOW, 0) / giga == pytest.approx(220 + 21 + 1.8, rel=0.01)


def test_tiny_is_the_same_network() -> None:
    assert (TINY.kernels, TINY.strides) == (MERT_95M.kernels, MERT_95M.strides)
    assert len(TINY.tensors) == 209 - 10 * 16
    assert TINY.hidden % TINY.heads == TINY.hidden % TINY.positional_groups == 0
    same = {name for name in MERT_95M.tensors if not name.startswith(tuple(f"encoder.layers.{k}." for k in range(2, 12)))}
    assert set(TINY.tensors) == same


def test_tensors_follow_the_sizes() -> None:
    odd = Architecture(channels=8, hidden=12, heads=3, layers=1, feed_forward=20, positional_kernel=4, positional_groups=3)
    assert odd.tensors["encoder.pos_conv_embed.conv.weight"] == (12, 4, 4)
    assert odd.tensors["feature_projection.projection.weight"] == (12, 8)
    assert conv_layer(2) == "feature_extractor.conv_layers.2"
    assert encoder_layer(0) == "encoder.layers.0"
