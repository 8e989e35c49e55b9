"""The shape of the network: its sizes, its tensors and its cost. Nothing here computes on audio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

POSITIONAL = "encoder.pos_conv_embed.conv"
"""Checkpoint name of the positional convolution."""


@dataclass(frozen=True)
class Architecture:
    """MERT-v1-95M by default: HuBERT base (Hsu et al. 2021, arXiv 2106.07447) at 24 kHz (Li et al. 2024, arXiv 2306.00107)."""

    channels: int = 512
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    hidden: int = 768
    heads: int = 12
    layers: int = 12
    feed_forward: int = 3072
    positional_kernel: int = 128
    positional_groups: int = 16
    epsilon: float = 1e-5

    @property
    def states(self) -> int:
        """Number of hidden states: the encoder's input, then the output of each layer."""
        return self.layers + 1

    @property
    def shortest(self) -> int:
        """Fewest samples from which the convolutions make one frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def lengths(self, samples: int) -> list[int]:
        """Return the time steps after each convolution for a window of `samples`; the last number is that of the frames."""
        lengths = []
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
            lengths.append(samples)
        return lengths

    @cached_property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor, in checkpoint order: 209 for MERT-v1-95M.

        Names are those of `transformers.HubertModel`, except that the positional convolution's weight norm is folded into one
        `weight`. Convolution weights are (out, kernel, in), linear ones (out, in).
        """
        shapes: dict[str, tuple[int, ...]] = {}

        def linear(name: str, out: int, into: int) -> None:
            shapes[f"{name}.weight"] = (out, into)
            shapes[f"{name}.bias"] = (out,)

        def norm(name: str, size: int) -> None:
            shapes[f"{name}.weight"] = (size,)
            shapes[f"{name}.bias"] = (size,)

        into = 1
        for index, kernel in enumerate(self.kernels):
            shapes[f"{conv_layer(index)}.conv.weight"] = (self.channels, kernel, into)
            if index == 0:
                norm(f"{conv_layer(index)}.layer_norm", self.channels)
            into = self.channels
        norm("feature_projection.layer_norm", self.channels)
        linear("feature_projection.projection", self.hidden, self.channels)
        shapes[f"{POSITIONAL}.bias"] = (self.hidden,)
        shapes[f"{POSITIONAL}.weight"] = (self.hidden, self.positional_kernel, self.hidden // self.positional_groups)
        norm("encoder.layer_norm", self.hidden)
        for index in range(self.layers):
            layer = encoder_layer(index)
            for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
                linear(f"{layer}.attention.{projection}", self.hidden, self.hidden)
            norm(f"{layer}.layer_norm", self.hidden)
            linear(f"{layer}.feed_forward.intermediate_dense", self.feed_forward, self.hidden)
            linear(f"{layer}.feed_forward.output_dense", self.hidden, self.feed_forward)
            norm(f"{layer}.final_layer_norm", self.hidden)
        return shapes

    def flops(self, samples: int, deepest: int | None = None) -> int:
        """Return the floating-point operations for one window up to layer `deepest`; a multiply-add counts as two."""
        lengths = self.lengths(samples)
        frames, size = lengths[-1], self.hidden
        into, total = 1, 0
        for length, kernel in zip(lengths, self.kernels, strict=True):
            total += 2 * length * self.channels * kernel * into
            into = self.channels
        total += 2 * frames * self.channels * size
        total += 2 * frames * size * self.positional_kernel * size // self.positional_groups
        linear = 2 * frames * (4 * size * size + 2 * size * self.feed_forward)
        attention = 4 * frames * frames * size
        return total + (self.layers if deepest is None else deepest) * (linear + attention)


MERT_95M = Architecture()
"""The published model."""

TINY = Architecture(channels=32, hidden=64, heads=4, layers=2, feed_forward=128, positional_kernel=32, positional_groups=4)
"""The same network, small enough to run in milliseconds: for tests, and for trying mertd without weights."""


def conv_layer(index: int) -> str:
    """Return the checkpoint name of convolution `index`, from 0."""
    return f"feature_extractor.conv_layers.{index}"


def encoder_layer(index: int) -> str:
    """Return the checkpoint name of transformer layer `index`, from 0."""
    return f"encoder.layers.{index}"
