"""What the embed process and the offline command share."""

from __future__ import annotations

import numpy as np
import pytest

from mertd.embed.embedder import Embedder
from mertd.embed.settings import ModelSettings
from mertd.errors import BackendError
from signals import chord_progression


def test_states_that_are_no_numbers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that fails, or float16 that overflows: never published, and a reason to start anew."""
    embedder = Embedder(ModelSettings("random:0?size=tiny", (1,), "numpy", 24_000))
    window = chord_progression(1.0)
    assert np.isfinite(embedder.embed([window])).all()
    whole = embedder.backend.embed

    def broken(windows: np.ndarray) -> np.ndarray:
        states = whole(windows)
        states[-1, 0, 5] = np.nan
        return states

    monkeypatch.setattr(embedder.backend, "embed", broken)
    with pytest.raises(BackendError, match="numpy gave hidden states that are not finite"):
        embedder.embed([window, window])
