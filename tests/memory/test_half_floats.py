from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mertd.memory.half_floats import pack, unpack, unpack_rows

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays(np.float32, array_shapes(max_dims=2, max_side=20), elements=FINITE))
def test_any_finite_vector_comes_back_as_close_as_float16_is(vector: np.ndarray) -> None:
    exponent, data = pack(vector)
    found = unpack(exponent, data).reshape(vector.shape)
    assert len(data) == 2 * vector.size
    assert np.isfinite(found).all()
    true = vector.astype(np.float64)
    peak = np.abs(true).max()
    # Relative to each value; absolute for those that are tiny beside the largest, or at the end of float32 itself.
    assert (np.abs(found - true) <= np.abs(true) * 2.0**-11 + peak * 2.0**-39 + 2.0**-149).all()
    if exponent == 113:
        return  # the largest values of float32 are rounded towards zero
    large = np.abs(true) >= peak * 2.0**-28
    if peak >= 2.0**-100:
        assert (np.abs(found - true)[large] <= np.abs(true)[large] * 2.0**-11).all()


def test_the_ends_of_float32() -> None:
    info = np.finfo(np.float32)
    for value in (info.max, -info.max, info.tiny, info.smallest_subnormal, 0.0, 65_504.0, 65_536.0, 1e-8):
        exponent, data = pack(np.array([value], np.float32))
        assert abs(float(unpack(exponent, data)[0]) - float(value)) <= abs(float(value)) * 2.0**-11


def test_what_float16_has_comes_back_exactly() -> None:
    """Halves of the usual range lose nothing, whatever exponent is chosen."""
    values = np.random.default_rng(0).standard_normal(768).astype(np.float16).astype(np.float32)
    exponent, data = pack(values)
    assert (unpack(exponent, data) == values).all()


@given(st.lists(arrays(np.float32, 5, elements=FINITE), min_size=1, max_size=5))
def test_rows_together_are_as_rows_one_by_one(vectors: list[np.ndarray]) -> None:
    packed = [pack(vector) for vector in vectors]
    found = unpack_rows(np.array([e for e, _ in packed], np.int32), [data for _, data in packed])
    assert (found == np.stack([unpack(*one) for one in packed])).all()
