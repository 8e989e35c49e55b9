from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.evaluate.retrieval import average_precisions, chance, loudness_share, mean_cosine, nearest_is_right


def test_average_precision_by_hand() -> None:
    similarities = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)
    base = np.array([1, 0, 1, 0])
    assert average_precisions(similarities, np.array([1]), base)[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precisions(similarities, np.array([0]), base)[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert nearest_is_right(similarities, np.array([1]), base).tolist() == [1]


def test_a_space_in_which_everything_is_alike_gains_nothing() -> None:
    base = np.repeat(np.arange(5), 2)
    alike = np.ones((10, 10), np.float32)
    assert average_precisions(alike, base, base).mean() < chance(base, base)


@pytest.mark.slow
@given(st.integers(0, 100))
def test_chance_is_what_random_vectors_get(seed: int) -> None:
    base = np.repeat(np.arange(4), 2)
    similarities = np.random.default_rng(seed).random((400, 8), np.float32)
    measured = average_precisions(similarities, np.resize(base, 400), base).mean()
    assert measured == pytest.approx(chance(base, base), abs=0.12)


def test_anisotropy_and_loudness() -> None:
    generator = np.random.default_rng(0)
    levels = generator.uniform(-40, -10, 200)
    labels = np.arange(200)
    noise = generator.standard_normal((200, 16)).astype(np.float32)
    loud = noise + (levels[:, None] * np.ones(16)).astype(np.float32)
    assert loudness_share(noise, levels) < 0.02
    assert loudness_share(loud, levels) > 0.95
    assert loudness_share(noise, np.full(200, -20.0)) == 0
    shifted = noise + 10
    assert mean_cosine(shifted, labels, np.zeros(16, np.float32)) > 0.95
    assert abs(mean_cosine(shifted, labels, shifted.mean(axis=0))) < 0.02
