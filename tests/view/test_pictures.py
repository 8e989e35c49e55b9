"""The square and the axes of the path."""

from __future__ import annotations

import numpy as np

from mertd.view.pictures import MIN_MOMENTS, NOT_HEARD, find_axes, square


def directions(count: int = 40, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = random.standard_normal((count, 12)) * np.linspace(3, 0.1, 12)
    return (found / np.linalg.norm(found, axis=1)[:, None]).astype(np.float32)


def test_the_square_says_how_alike_two_moments_are() -> None:
    means, counts = directions(), np.ones(40, np.int64)
    counts[7] = 0
    means[3] = means[20]
    found = square(means, counts)
    assert (found == found.T).all()
    assert (found[7] == NOT_HEARD).all()
    heard = counts > 0
    assert (np.diagonal(found)[heard] == 254).all()
    assert found[3, 20] == 254
    centred = means[heard] - means[heard].mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1)[:, None]
    assert np.abs(found[np.ix_(heard, heard)] / 127 - 1 - unit @ unit.T).max() < 0.005


def test_a_square_of_nothing() -> None:
    assert (square(np.zeros((4, 0), np.float32), np.zeros(4, np.int64)) == NOT_HEARD).all()


def test_axes_show_what_differs_most_and_do_not_flip() -> None:
    found = directions()
    axes, again = find_axes(found), find_axes(found[::-1])
    assert axes is not None
    assert again is not None
    assert np.abs(axes.rows - again.rows).max() < 1e-4
    assert axes.share[0] >= axes.share[1] > 0
    drawn = axes.place(found)
    assert drawn.shape == (40, 2)
    assert drawn[:, 0].var() >= drawn[:, 1].var()


def test_too_little_has_no_axes() -> None:
    assert find_axes(directions(MIN_MOMENTS - 1)) is None
    assert find_axes(np.ones((20, 4), np.float32)) is None
