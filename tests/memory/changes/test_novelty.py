from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.memory.changes.novelty import checkerboard, novelty


def units(count: int, size: int = 6, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@given(st.integers(1, 8), st.integers(0, 60), st.integers(0, 5))
def test_it_is_the_kernel_moved_along_the_diagonal(half: int, count: int, seed: int) -> None:
    """As Foote wrote it: from the whole matrix."""
    vectors = units(count, seed=seed)
    matrix = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    kernel = checkerboard(half).astype(np.float64)
    expected = np.zeros(count)
    for border in range(half, count - half + 1):
        square = slice(border - half, border + half)
        expected[border] = max((kernel * matrix[square, square]).sum(), 0) if border < count else 0
    assert np.allclose(novelty(vectors, half)[: count - half + 1], expected[: count - half + 1], atol=1e-5)


def test_a_clean_cut_between_opposites_is_2_and_one_sound_is_0() -> None:
    cut = np.repeat(np.array([[1, 0], [-1, 0]], np.float32), 10, axis=0)
    values = novelty(cut, 4)
    assert int(values.argmax()) == 10
    assert values.max() == pytest.approx(2, abs=1e-5)
    assert novelty(np.tile(cut[:1], (30, 1)), 4).max() == pytest.approx(0, abs=1e-5)


def test_the_kernel_is_balanced() -> None:
    kernel = checkerboard(5)
    assert kernel.sum() == pytest.approx(0, abs=1e-6)
    assert kernel[kernel > 0].sum() == pytest.approx(1, abs=1e-6)
    assert (kernel == kernel.T).all()
