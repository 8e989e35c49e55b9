"""PyTorch's own HuBERT with mertd's weights: the judge of every backend. Needs torch and transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import POSITIONAL
from mertd.embed.weights import Weights


def hubert(weights: Weights) -> Any:
    """`transformers.HubertModel` in float32, ready to evaluate."""
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
    assert f"{POSITIONAL}.weight" in model.state_dict()
    state = {
        name: torch.from_numpy(np.ascontiguousarray(tensor.swapaxes(1, 2) if tensor.ndim == 3 else tensor, np.float32))
        for name, tensor in weights.tensors.items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["masked_spec_embed"]
    assert not unexpected
    return model


def states(model: Any, window: NDArray[np.float32]) -> NDArray[np.float32]:
    """A normalised window, (samples,) -> mean-pooled hidden states, (13, 768)."""
    import torch

    with torch.inference_mode():
        hidden = model(torch.from_numpy(window)[None], output_hidden_states=True).hidden_states
    return np.stack([state[0].double().mean(dim=0).float().numpy() for state in hidden])
