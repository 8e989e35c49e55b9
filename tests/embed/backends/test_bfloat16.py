"""Numbers in two parts of bfloat16."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mertd.embed.backends.bfloat16 import rounded, split, whole

NUMBERS = st.lists(st.floats(-(2.0**100), 2.0**100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-25), min_size=1)


@given(NUMBERS)
def test_two_parts_are_the_number_to_sixteen_bits(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32)
    parts = split(x)
    assert (np.abs(x - parts[0] - parts[1]) <= np.abs(x) * 2.0**-16).all()
    for part in parts:
        assert not (part.view(np.uint32) & 0xFFFF).any(), "each is a bfloat16 number"
        assert (rounded(part) == part).all()


@given(NUMBERS)
def test_rounding_is_to_the_nearest(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32)
    step = np.float32(2.0**-8)
    assert (np.abs(rounded(x) - x) <= np.abs(x) * step).all()
    assert (rounded(-x) == -rounded(x)).all()


def test_ties_go_to_the_even_neighbour() -> None:
    ulp = 2.0**-7  # of numbers from 1 to 2
    halves = np.array([1 + ulp / 2, 1 + 3 * ulp / 2], np.float32)
    assert rounded(halves).tolist() == [1.0, 1 + 2 * ulp]


def test_a_whole_number_stays() -> None:
    x = np.array([1.2345678, -3], np.float32)
    same, nothing = whole(x)
    assert same is x
    assert not nothing.any()
