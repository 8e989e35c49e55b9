"""MLX on a GPU: every formulation against PyTorch, and a batch against its windows one by one."""

from __future__ import annotations

import numpy as np
import pytest

from mertd.embed.architecture import MERT_95M
from mertd.embed.audio import normalise
from mertd.embed.backends.mlx_backend import FORMS, MlxBackend, mlx_has_gpu
from mertd.embed.backends.self_check import cosines
from mertd.embed.weights.loading import load
from reference.hubert import hubert, states
from reference.test_live import check
from signals import chord_progression, sounds

pytestmark = [
    pytest.mark.reference,
    pytest.mark.xdist_group("reference"),
    pytest.mark.skipif(not mlx_has_gpu(), reason="needs a GPU that MLX can use"),
]
ALL = range(MERT_95M.states)
SECONDS = 30.0
MIN_COSINE = {"float32": 0.99999, "float16": 0.9999}


@pytest.mark.parametrize("spec", ["random:0", "random:0?outliers=1"])
def test_every_formulation_agrees_with_pytorch(spec: str) -> None:
    """All layers, at the length that the daemon uses: convolutions have failed by their size alone."""
    weights = load(spec)
    model = hubert(weights)
    windows = {name: normalise(sound) for name, sound in sounds(SECONDS).items()}
    expected = {name: states(model, window) for name, window in windows.items()}
    for precision, least in MIN_COSINE.items():
        for form in FORMS:
            if (precision, form) == ("float32", "fused"):
                continue
            backend = MlxBackend(weights, ALL, precision, form)
            for name, window in windows.items():
                check(backend.embed(window[None])[0], expected[name], least, f"{precision} {form} {name}")


def test_a_batch_is_what_its_windows_are_alone() -> None:
    """Also when one batch follows another through the same memory."""
    windows = np.stack([normalise(chord_progression(SECONDS, seed=seed)) for seed in range(16)])
    backend = MlxBackend(load("random:0"), (6,))
    alone = np.concatenate([backend.embed(window[None]) for window in windows])[:, 0]
    together = np.concatenate([backend.embed(windows[at : at + 8]) for at in (0, 8)])[:, 0]
    assert cosines(together, alone).min() > 0.99999
    for vector, window in zip(together, alone, strict=True):
        assert cosines(vector[None], together).argmax() == cosines(window[None], alone).argmax()
