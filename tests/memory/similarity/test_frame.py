from __future__ import annotations

import numpy as np
import pytest

from mertd.memory.similarity.frame import DIRECTIONS, Frame


def vectors(dimensions: int, size: int = 600, count: int = 1_200) -> np.ndarray:
    generator = np.random.default_rng(dimensions)
    return (generator.standard_normal((count, dimensions)) @ generator.standard_normal((dimensions, size)) + 20).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("dimensions", "directions"),
    [(40, DIRECTIONS[0]), (200, DIRECTIONS[1]), pytest.param(700, 600, marks=pytest.mark.slow)],
)
def test_as_many_directions_are_compared_as_the_vectors_differ_in(dimensions: int, directions: int) -> None:
    given = vectors(dimensions)
    frame = Frame.fit(given, given.mean(axis=0))
    assert frame.directions == directions
    moved = given - frame.mean
    units = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    seen = np.stack([frame.seen(vector) for vector in given[:50]]).astype(np.float32)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    assert np.abs(seen @ seen.T - units[:50] @ units[:50].T).max() < 0.05


def test_vectors_that_are_few_equal_or_not_finite_have_a_frame_too() -> None:
    mean = np.zeros(600, np.float32)
    for given in (np.zeros((0, 600)), np.zeros((3, 600)), np.full((3, 600), np.nan), vectors(5)[:1]):
        frame = Frame.fit(given.astype(np.float32), mean)
        assert frame.seen(mean).shape == (frame.directions,)
        assert not frame.seen(mean).any()


def test_equal_frames_have_equal_keys() -> None:
    given = vectors(10, 200)
    one, same = (Frame.fit(given, given.mean(axis=0)) for _ in range(2))
    assert one.key == same.key
    assert one.key != Frame.fit(given, given.mean(axis=0) + 1).key
