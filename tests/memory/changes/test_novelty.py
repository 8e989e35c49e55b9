from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.memory.changes.novelty import TAPER, novelty, side_weights


def units(count: int, size: int = 6, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    made = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def checkerboard(half: int) -> np.ndarray[Any, Any]:
    """The kernel as Foote wrote it: positive within a side, negative between them; the positive part sums to 1."""
    offsets = (np.arange(2 * half) - (half - 0.5)) / half
    taper = np.exp(-0.5 * np.square(offsets / TAPER))
    kernel = np.outer(taper, taper) * np.sign(np.outer(offsets, offsets))
    return np.asarray(kernel / kernel[kernel > 0].sum())


@given(st.integers(1, 8), st.integers(0, 20), st.floats(0, 50))
def test_it_is_the_kernel_over_the_matrix_wherever_the_centre_is(half: int, seed: int, centre: float) -> None:
    vectors = units(2 * half, seed=seed).astype(np.float64)
    expected = float((checkerboard(half) * (vectors @ vectors.T)).sum())
    assert novelty([*(vectors + centre)], side_weights(half)) == pytest.approx(expected, abs=1e-9)


def test_a_clean_cut_between_opposites_is_2_and_one_sound_is_0() -> None:
    cut = [np.array([1, 0])] * 4 + [np.array([-1, 0])] * 4
    assert novelty(cut, side_weights(4)) == pytest.approx(2)
    assert novelty(cut[:4] * 2, side_weights(4)) == pytest.approx(0)


def test_both_sides_weigh_the_same() -> None:
    weights = side_weights(5)
    assert weights[5:].sum() == pytest.approx(1)
    assert weights[:5] == pytest.approx(-weights[:4:-1])
