from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mertd.memory.changes.direction_spread import DirectionSum, LatestDirections, direction

VECTORS = arrays.arrays(np.float32, 8, elements=st.floats(-(2.0**100), 2.0**100, width=32))


@settings(max_examples=10 + settings.default.max_examples // 10)
@given(st.lists(VECTORS, min_size=1, max_size=30), st.integers(1, 10))
def test_what_has_left_leaves_no_trace(vectors: list[np.ndarray[Any, Any]], limit: int) -> None:
    """Equal to the bit, so that a process that begins later finds the same."""
    latest, alone = LatestDirections(8, limit), DirectionSum(8)
    for vector in vectors:
        latest.push(direction(vector))
    for vector in vectors[-limit:]:
        alone.add(direction(vector))
    assert (latest.mean == alone.mean).all()
    assert latest.variance == alone.variance
    assert latest.count == min(limit, len(vectors))


@given(VECTORS)
def test_a_direction_has_length_1_or_none(vector: np.ndarray[Any, Any]) -> None:
    length = float(np.linalg.norm(direction(vector).astype(np.float64)))
    assert length == pytest.approx(1, abs=1e-3) if vector.any() else length == 0


def test_the_variance_is_half_the_mean_squared_distance_of_two() -> None:
    drawn = [direction(vector) for vector in np.random.default_rng(1).standard_normal((50, 8)) + 2]
    found = DirectionSum(8)
    for one in drawn:
        found.add(one)
    pairs = [np.square(a.astype(np.float64) - b).sum() for a in drawn for b in drawn]
    assert found.variance == pytest.approx(np.mean(pairs) / 2, rel=1e-6)
