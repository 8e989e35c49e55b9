"""Windows of samples in, vectors out: the one path that the daemon and the offline command share."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import MERT_95M, Architecture
from mertd.embed.audio import normalise
from mertd.embed.backends import Chosen, choose, preload
from mertd.embed.settings import NORMALISATION, POOLING, ModelSettings
from mertd.embed.weights import Weights, load
from mertd.errors import BackendError, UsageError


class Embedder:
    """A loaded, checked and warm model."""

    def __init__(self, settings: ModelSettings, trying: Callable[[str, tuple[str, ...]], object] = lambda *_: None) -> None:
        """`trying` is told each backend before it is tried, and those that would be next.

        Raises `WeightsError`, `BackendError`, or `UsageError` for layers the network does not have.
        """
        threading.Thread(target=preload, args=(settings.backend,), name="preload").start()
        self.weights = load(settings.weights)
        architecture = self.weights.architecture
        if bad := [layer for layer in settings.layers if not 0 <= layer < architecture.states]:
            raise UsageError(f"layers are 0 to {architecture.layers}, not {', '.join(map(str, bad))}")
        self.model = model_name(architecture)
        self.chosen: Chosen = choose(settings.backend, self.weights, settings.layers, settings.excluded, trying)
        self.backend = self.chosen.backend
        self.backend.prepare(settings.window)
        self.space = space(self.model, self.weights, settings.layers, settings.window)

    def embed(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Windows as they were heard, (samples,) each -> (windows, layers, hidden).

        Raises `BackendError` for states that are not finite numbers.
        """
        states = self.backend.embed(np.stack([normalise(samples) for samples in windows]))
        if not np.isfinite(states).all():
            raise BackendError(f"{self.backend.name} gave hidden states that are not finite numbers")
        return states


def model_name(architecture: Architecture) -> str:
    """What a message calls the model."""
    return "MERT-v1-95M" if architecture == MERT_95M else "MERT-tiny"


def space(model: str, weights: Weights, layers: Sequence[int], window: int) -> str:
    """Fingerprint of all that makes two vectors comparable: 16 hexadecimal digits."""
    facts = [model, weights.digest, ",".join(map(str, layers)), POOLING, str(window), NORMALISATION]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
