"""Weights made from a seed: untrained, of the true shapes, and the same bits on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mertd.embed.architecture import Architecture
from mertd.embed.weights.tensors import Half


def random_tensors(architecture: Architecture, seed: int) -> Iterator[tuple[str, Half]]:
    """Yield the name and values of each tensor, the same bits on every machine.

    The values are uniform, made from the raw output of PCG64, which numpy guarantees never to change. Their scales keep the
    signal's variance through every layer, so that each layer affects the result.
    """
    generator = np.random.PCG64(seed)
    for name, shape in architecture.tensors.items():
        count = int(np.prod(shape))
        words = generator.random_raw((count + 3) // 4).view(np.uint16)[:count]
        unit = (words.astype(np.float32) - np.float32(32767.5)) * np.float32(3**0.5 / 32768)  # mean 0, variance 1
        if len(shape) == 1:
            is_gain = "norm" in name and name.endswith(".weight")
            values = np.float32(0.1) * unit + np.float32(is_gain)
        else:
            fan_in = int(np.prod(shape[1:]))
            gain = 2.0 if ".conv." in name else 1.0  # GELU halves the variance after a convolution (He et al. 2015)
            values = unit * np.float32((gain / fan_in) ** 0.5)
        yield name, values.reshape(shape).astype(np.float16)


def with_outliers(architecture: Architecture, tensors: Mapping[str, Half], seed: int) -> dict[str, Half]:
    """Return the same weights with a few hidden channels 20 to 100 times larger, as trained transformers have.

    In a post-norm network they come from the gains of the layer norms, and the residual stream carries them through every
    layer (Kovaleva et al. 2021, arXiv 2105.06990). Here six channels get large gains and biases at each final layer norm, the
    next attention layer norm reduces them, and the weights that read them are smaller, as training would have made them.
    """
    generator = np.random.Generator(np.random.PCG64(seed + 1))
    size = architecture.hidden
    channels = generator.choice(size, 6, replace=False)
    factors = np.exp(generator.uniform(np.log(20), np.log(100), 6)).astype(np.float32)
    grown = np.ones(size, np.float32)
    grown[channels] = factors
    out = dict(tensors)
    for name, tensor in tensors.items():
        values = tensor.astype(np.float32)
        if name.startswith("encoder.") and (".final_layer_norm." in name or name.startswith("encoder.layer_norm.")):
            values = values * grown
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            values = values / grown
        elif name.startswith("encoder.layers") and name.endswith("attention.out_proj.weight"):
            values = values * np.sqrt(grown)[:, None]
        elif name.startswith("encoder.layers") and ".layer_norm.weight" in name:
            values = values * np.where(grown > 1, np.float32(0.5), np.float32(4))
        else:
            continue
        out[name] = values.astype(np.float16)
    return out
