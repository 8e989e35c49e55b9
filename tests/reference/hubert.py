"""PyTorch's own HuBERT as judge of every backend: `mertd.bench` builds it, tests average its states in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.bench.pytorch import hubert

__all__ = ["hubert", "states"]


def states(model: Any, window: NDArray[np.float32]) -> NDArray[np.float32]:
    """A normalised window, (samples,) -> mean-pooled hidden states, (13, 768)."""
    import torch

    with torch.inference_mode():
        hidden = model(torch.from_numpy(window)[None], output_hidden_states=True).hidden_states
    return np.stack([state[0].double().mean(dim=0).float().numpy() for state in hidden])
