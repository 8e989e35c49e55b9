"""PyTorch's own HuBERT with mertd's weights, which every backend is compared with. Needs torch and transformers."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import Architecture
from mertd.embed.threads import current
from mertd.embed.weights.tensors import Weights
from mertd.errors import WeightsError

Array = NDArray[np.float32]
"""Samples or states."""


def is_installed() -> bool:
    """Return whether torch and transformers are installed, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def configuration(a: Architecture, **more: Any) -> Any:
    """Return the `transformers.HubertConfig` of an architecture. `more`: settings that it does not decide."""
    from transformers import HubertConfig

    return HubertConfig(
        hidden_size=a.hidden,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        intermediate_size=a.feed_forward,
        conv_dim=[a.channels] * len(a.kernels),
        num_conv_pos_embeddings=a.positional_kernel,
        num_conv_pos_embedding_groups=a.positional_groups,
        **more,
    )


def hubert(weights: Weights, layers: int | None = None) -> Any:
    """Return a `transformers.HubertModel` in float32 on the CPU, with eager attention, in evaluation mode.

    `layers`: transformer layers to keep; all of them if None. Raises `WeightsError` if the names of the tensors differ.
    """
    import torch
    from torch.nn.utils import parametrize
    from transformers import HubertModel

    torch.set_num_threads(current().count)
    model = HubertModel(configuration(weights.architecture, attn_implementation="eager")).eval()
    parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")  # mertd's is folded already
    state = {
        name: torch.from_numpy(np.ascontiguousarray(tensor.swapaxes(1, 2) if tensor.ndim == 3 else tensor, np.float32))
        for name, tensor in weights.tensors.items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing != ["masked_spec_embed"] or unexpected:
        raise WeightsError(f"the weights do not fit HubertModel: missing {missing}, unexpected {unexpected}")
    if layers is not None:
        model.encoder.layers = model.encoder.layers[:layers]
    return model


def states(model: Any, windows: Array, attention: str = "eager") -> Array:
    """Return the mean-pooled hidden states of normalised windows: (batch, samples) -> (batch, 13, 768).

    `attention`: eager or sdpa.
    """
    return np.asarray(states_on_device(model, upload(model, windows), attention).cpu().numpy())


def upload(model: Any, windows: Array) -> Any:
    """Return `windows` as a tensor on the device of `model`, in its dtype."""
    import torch

    return torch.from_numpy(windows).to(model.device, model.dtype)


def states_on_device(model: Any, samples: Any, attention: str = "eager") -> Any:
    """Return what `states` does, as a tensor on the device, once it has been computed. `samples`: from `upload`."""
    import torch

    model.config._attn_implementation = attention
    with torch.inference_mode():
        hidden = model(samples, output_hidden_states=True).hidden_states
        pooled = torch.stack([state.float().mean(dim=1) for state in hidden], dim=1)
    if pooled.is_cuda:
        torch.cuda.synchronize()
    return pooled
