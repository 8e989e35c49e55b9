"""The model as the daemon and the offline command use it: windows of samples in, vectors out."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mertd.embed import threads
from mertd.embed.architecture import MERT_95M, Architecture
from mertd.embed.audio import normalise
from mertd.embed.backends.choice import Chosen, choose, preload
from mertd.embed.backends.self_check import check_signal
from mertd.embed.messages import ModelInfo
from mertd.embed.model_settings import NORMALISATION, POOLING, ModelSettings
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError, UsageError
from mertd.wire import Model

log = logging.getLogger(__name__)

Vector = NDArray[np.float32] | None
"""What the model makes of a window: its hidden states, (layers, hidden), or None if they or its samples are not finite."""

Waiting = Callable[[], list[Vector]]
"""Waits for the vectors of a batch."""

RECHECK_S = 60.0
"""Seconds between two checks of a backend that gave hidden states that are not finite: each costs as much as a batch."""


class Embedder:
    """A model that is loaded, checked and compiled."""

    def __init__(self, settings: ModelSettings, trying: Callable[[str, tuple[str, ...]], object] = lambda *_: None) -> None:
        """Load the model that `settings` describe. `trying` is called with each backend before it is tried, and with the
        backends that would be next.

        Raises `WeightsError`, `BackendError`, or `UsageError` for layers that the network does not have.
        """
        self.threads = threads.limit(settings.threads)
        threading.Thread(target=preload, args=(settings.backend, settings.precision), name="preload").start()
        self.weights = load(settings.weights)
        architecture = self.weights.architecture
        if bad := [layer for layer in settings.layers if not 0 <= layer < architecture.states]:
            raise UsageError(f"layers are 0 to {architecture.layers}, not {', '.join(map(str, bad))}")
        self.chosen: Chosen = choose(
            settings.backend,
            self.weights,
            settings.layers,
            settings.excluded,
            trying,
            settings.window,
            settings.precision,
            settings.check,
        )
        self.backend = self.chosen.backend
        self.info = _describe(self.weights, self.chosen, settings, self.threads)
        self._checked_s = -RECHECK_S

    def embed(self, windows: Sequence[NDArray[np.float32]]) -> list[Vector]:
        """Embed windows of one length as they were received, (samples,) each. Return the hidden states of each, (layers,
        hidden), or None for a window whose samples or hidden states are not finite numbers.

        Raises `BackendError` if the backend also gives such states for a signal that is known to be good.
        """
        return self.embed_prepared([normalise(samples) if np.isfinite(samples).all() else None for samples in windows])

    def embed_prepared(self, windows: Sequence[NDArray[np.float32] | None]) -> list[Vector]:
        """Do the same with normalised windows; None stands for one that has samples which are not finite."""
        fit = [samples for samples in windows if samples is not None]
        if not fit:
            return [None] * len(windows)
        batch = self.backend.room(len(fit), len(fit[0]))
        for samples, row in zip(fit, batch, strict=True):
            row[:] = samples
        return self._sorted(self.backend.embed(batch), _numbers(windows), len(windows), batch.shape[1])

    def begin_prepared(self, windows: Sequence[NDArray[np.float32] | None]) -> Waiting:
        """Begin to do the same; return what waits for it. At most one more may be begun before its result is asked for.

        A backend that computes where this thread does has done it when this returns. So has MLX on a CPU: what goes wrong in
        its `async_eval` there ends the process instead of being raised (mlx #4329).
        """
        begin = getattr(self.backend, "begin", None) if self.backend.max_batch > 1 else None
        fit = [samples for samples in windows if samples is not None]
        if begin is None or not fit:
            results = self.embed_prepared(windows)
            return lambda: results
        wait = begin(fit)
        return lambda: self._sorted(wait(), _numbers(windows), len(windows), len(fit[0]))

    def _sorted(self, found: NDArray[np.float32], fit: Sequence[int], count: int, length: int) -> list[Vector]:
        """Return the states of `count` windows of `length` samples: `found`, for those with the numbers `fit`, if finite."""
        results: list[Vector] = [None] * count
        for at, states in zip(fit, found, strict=True):
            if np.isfinite(states).all():
                results[at] = states
        if any(results[at] is None for at in fit):
            self._check_backend(len(fit), length)
        return results

    def _check_backend(self, windows: int, length: int) -> None:
        """Run the backend on a batch of the same size that is known to be good, unless it did so less than `RECHECK_S` ago."""
        if time.monotonic() - self._checked_s < RECHECK_S:
            return
        self._checked_s = time.monotonic()
        good = normalise(np.resize(check_signal(), length))
        if not np.isfinite(self.backend.embed(np.stack([good] * windows))).all():
            raise BackendError(f"{self.backend.name} gave hidden states that are not finite numbers, also for a test signal")
        log.warning(
            "%s gave hidden states that are not finite numbers for a window, but not for a test signal", self.backend.name
        )


def _numbers(windows: Sequence[NDArray[np.float32] | None]) -> list[int]:
    """Return the places of those that the network can be given."""
    return [at for at, samples in enumerate(windows) if samples is not None]


def _describe(weights: Weights, chosen: Chosen, settings: ModelSettings, limit: threads.ThreadLimit) -> ModelInfo:
    name, backend = model_name(weights.architecture), chosen.backend
    model = Model(
        name=name,
        space=space(name, weights, settings.layers, settings.window),
        weights=weights.digest,
        trained=weights.trained,
        layers=tuple(settings.layers),
        pooling=POOLING,
        backend=backend.name,
        precision=backend.precision,
    )
    about = f"{limit.count} CPU threads ({limit.reason})"
    return ModelInfo(
        model, weights.architecture.hidden, backend.device, chosen.agreement, chosen.rejected, about, chosen.checked
    )


def model_name(architecture: Architecture) -> str:
    """Return the name of the model in messages."""
    return "MERT-v1-95M" if architecture == MERT_95M else "MERT-tiny"


def space(model: str, weights: Weights, layers: Sequence[int], window: int) -> str:
    """Return the fingerprint of everything that makes two vectors comparable: 16 hexadecimal digits."""
    parts = [model, weights.digest, ",".join(map(str, layers)), POOLING, str(window), NORMALISATION]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
