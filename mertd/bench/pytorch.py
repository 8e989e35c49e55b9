"""PyTorch's own HuBERT with mertd's weights: what every backend is compared with. Needs torch and transformers."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.weights.tensors import Weights
from mertd.errors import WeightsError

Array = NDArray[np.float32]


def is_here() -> bool:
    """Whether torch and transformers can be imported, as far as can be told without doing so."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def hubert(weights: Weights, layers: int | None = None) -> Any:
    """`transformers.HubertModel` in float32 on the CPU, with eager attention, ready to evaluate.

    `layers`: how many transformer layers to keep; all of them if None. Raises `WeightsError` if the names do not fit.
    """
    import torch
    from torch.nn.utils import parametrize
    from transformers import HubertConfig, HubertModel

    a = weights.architecture
    config = HubertConfig(
        hidden_size=a.hidden,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        intermediate_size=a.feed_forward,
        conv_dim=[a.channels] * len(a.kernels),
        num_conv_pos_embeddings=a.positional_kernel,
        num_conv_pos_embedding_groups=a.positional_groups,
        attn_implementation="eager",
    )
    model = HubertModel(config).eval()
    parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")  # mertd's is folded already
    state = {
        name: torch.from_numpy(np.ascontiguousarray(tensor.swapaxes(1, 2) if tensor.ndim == 3 else tensor, np.float32))
        for name, tensor in weights.tensors.items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing != ["masked_spec_embed"] or unexpected:
        raise WeightsError(f"HubertModel lacks {missing} and does not know {unexpected}")
    if layers is not None:
        model.encoder.layers = model.encoder.layers[:layers]
    return model


def states(model: Any, windows: Array, attention: str = "eager") -> Array:
    """Normalised windows, (batch, samples) -> mean-pooled hidden states, (batch, 13, 768). `attention`: eager or sdpa."""
    import torch

    model.config._attn_implementation = attention
    with torch.inference_mode():
        hidden = model(torch.from_numpy(windows).to(model.device, model.dtype), output_hidden_states=True).hidden_states
        pooled = torch.stack([state.float().mean(dim=1) for state in hidden], dim=1)
        return np.asarray(pooled.cpu().numpy())
