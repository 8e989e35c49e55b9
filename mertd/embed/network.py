"""MERT's forward pass, written once.

`hidden_states` uses only `Layers`, a small set of operations that each backend implements: numpy computes at once, mlx traces,
onnx, openvino and mil build a graph. So the backends share every step of the network and can differ only in arithmetic.

Windows overlap, but nothing of one can be used for the next: the instance norm after convolution 0 spans the window, so every
later value changes when the window moves. docs/benchmarks.md has what reusing it would cost.

Rules of this file: no library is imported, no layout is assumed beyond what `Layers` promises, and no tensor is computed that
the requested layers do not need. `tests/reference` compares it with `transformers.HubertModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from mertd.embed.architecture import POSITIONAL, Architecture, conv_layer, encoder_layer

T = TypeVar("T")
"""The tensor type of a backend."""


class Layers(Protocol[T]):
    """The operations of the network, in the backend's working precision.

    Sequences are (batch, time, features). A *feature map* holds the same values in the layout in which the backend convolves
    fastest; `first_convolution` and `conv` return one, and `sequence` turns it into a sequence. Parameters are named as in
    `Architecture.tensors`; an operation that takes `name` reads `name.weight` and, where there is one, `name.bias`.
    """

    def first_convolution(self, architecture: Architecture, samples: T, length: int) -> T:
        """Convolution 0 and the instance norm after it, as a feature map: the function of this name below, or an equal one."""

    def conv(self, x: T, name: str, stride: int) -> T:
        """Bias-free convolution of a feature map, without padding."""

    def sequence(self, x: T) -> T:
        """Feature map -> (batch, time, features)."""

    def positional(self, x: T, name: str, groups: int) -> T:
        """Grouped convolution over a sequence, padded by half the (even) kernel, with the last frame dropped: same length."""

    def linear(self, x: T, name: str) -> T: ...
    def linears(self, x: T, names: Sequence[str]) -> Sequence[T]:
        """Several linear maps of one sequence, all of the same size."""

    def layer_norm(self, x: T, name: str, epsilon: float) -> T: ...
    def gelu(self, x: T) -> T:
        """Exact GELU, x * Phi(x), of a sequence or a feature map."""

    def residual(self, x: T, y: T) -> T:
        """x + y of two sequences."""

    def attention(self, query: T, key: T, value: T, heads: int) -> T:
        """softmax(q k' / sqrt(size)) v per head, over sequences; no mask."""

    def pool(self, states: Sequence[T]) -> T:
        """Mean over time of each (batch, time, features) state, in float32 -> (batch, states, features)."""


class Ops(Layers[T], Protocol[T]):
    """These, and what the statistics of the first convolution need.

    The elementary operations stay in float32 whatever the precision of the backend. Axes of length 1 broadcast, as in numpy.
    """

    def parameter(self, name: str, shape: tuple[int, ...]) -> T:
        """The named parameter, reshaped."""

    def frames(self, samples: T, length: int, hop: int) -> T:
        """(batch, n) -> (batch, (n - length) // hop + 1, length); `length` is twice `hop`."""

    def add(self, a: T, b: float) -> T: ...
    def subtract(self, a: T, b: T) -> T: ...
    def multiply(self, a: T, b: T | float) -> T: ...
    def rsqrt(self, a: T) -> T: ...
    def relu(self, a: T) -> T: ...
    def matmul(self, a: T, b: T) -> T: ...
    def transpose(self, a: T) -> T:
        """Swap the last two axes."""

    def mean(self, a: T, axis: int) -> T:
        """Mean over one axis, which is kept with length 1."""

    def sum(self, a: T, axis: int) -> T:
        """Sum over one axis, which is kept with length 1."""

    def first_map(self, frames: T, weight: T, bias: T) -> T:
        """(batch, time, k) frames times (batch, channels, k) weights plus (channels,) bias, as a feature map."""


def hidden_states(ops: Layers[T], architecture: Architecture, samples: T, length: int, layers: Sequence[int]) -> T:
    """Return the mean-pooled hidden states of a batch of windows, (batch, len(layers), hidden).

    `samples`: (batch, length), 24 kHz, each window with zero mean and unit variance. `layers`: which states, ascending; 0 is
    the encoder's input after its layer norm, k the output of transformer layer k. Layers behind the last of `layers` are not
    computed.
    """
    epsilon = architecture.epsilon
    h = ops.layer_norm(features(ops, architecture, samples, length), "feature_projection.layer_norm", epsilon)
    h = ops.linear(h, "feature_projection.projection")
    h = ops.residual(h, ops.gelu(ops.positional(h, POSITIONAL, architecture.positional_groups)))
    h = ops.layer_norm(h, "encoder.layer_norm", epsilon)

    states = [h] if 0 in layers else []
    for index in range(max(layers)):
        h = transformer_layer(ops, architecture, h, encoder_layer(index))
        if index + 1 in layers:
            states.append(h)
    return ops.pool(states)


def features(ops: Layers[T], architecture: Architecture, samples: T, length: int) -> T:
    """Return what the convolutions make of a batch of windows, (batch, frames, channels)."""
    x = ops.gelu(ops.first_convolution(architecture, samples, length))
    for index, stride in enumerate(architecture.strides[1:], start=1):
        x = ops.gelu(ops.conv(x, f"{conv_layer(index)}.conv", stride))
    return ops.sequence(x)


def first_convolution(ops: Ops[T], architecture: Architecture, samples: T, length: int) -> T:
    """Return the feature map of convolution 0 and the instance norm after it, computed as one product."""
    return ops.first_map(*fold_norm(ops, architecture, samples, length))


def fold_norm(ops: Ops[T], architecture: Architecture, samples: T, length: int) -> tuple[T, T, T]:
    """Return centred frames (batch, time, k), weights (batch, channels, k) and a bias (channels,): their product and sum is
    convolution 0 with the instance norm after it.

    Let c_t be the t-th frame of samples less the mean frame, and R = mean_t(c_t c_t'), a 10 x 10 Gram matrix. A channel with
    weights w then has mean zero over the window and variance w' R w, so the norm folds into the weights:
    y_t = c_t . (w * gamma / sqrt(max(w' R w, 0) + epsilon)) + beta. This is exact, and it needs the statistics of 10 numbers a
    frame, which are kept in float32, instead of those of 512 channels over 144,000 frames.
    """
    name = conv_layer(0)
    kernel, channels = architecture.kernels[0], architecture.channels
    frames = ops.frames(samples, kernel, architecture.strides[0])
    centred = ops.subtract(frames, ops.mean(frames, axis=1))
    gram = ops.multiply(ops.matmul(ops.transpose(centred), centred), 1 / architecture.lengths(length)[0])

    weight = ops.parameter(f"{name}.conv.weight", (channels, kernel))
    gamma = ops.parameter(f"{name}.layer_norm.weight", (channels, 1))
    beta = ops.parameter(f"{name}.layer_norm.bias", (channels,))
    variance = ops.sum(ops.multiply(ops.matmul(weight, gram), weight), axis=-1)
    scale = ops.multiply(ops.rsqrt(ops.add(ops.relu(variance), architecture.epsilon)), gamma)
    return centred, ops.multiply(scale, weight), beta


def transformer_layer(ops: Layers[T], architecture: Architecture, h: T, name: str) -> T:
    """Return the output of one post-norm transformer layer, (batch, time, hidden)."""
    attention = f"{name}.attention"
    query, key, value = ops.linears(h, [f"{attention}.{projection}_proj" for projection in "qkv"])
    attended = ops.linear(ops.attention(query, key, value, architecture.heads), f"{attention}.out_proj")
    h = ops.layer_norm(ops.residual(h, attended), f"{name}.layer_norm", architecture.epsilon)
    inner = ops.gelu(ops.linear(h, f"{name}.feed_forward.intermediate_dense"))
    outer = ops.linear(inner, f"{name}.feed_forward.output_dense")
    return ops.layer_norm(ops.residual(h, outer), f"{name}.final_layer_norm", architecture.epsilon)
