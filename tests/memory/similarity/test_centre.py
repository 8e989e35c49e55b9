from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memory.similarity.array_segment import music
from mertd.memory.similarity.centre import Centre, CentreError, centred_cosine, centred_units

HALVES = arrays(np.float16, st.tuples(st.integers(0, 20), st.just(5)), elements=st.floats(-7, 7, width=16))


@given(st.lists(HALVES, max_size=4), st.randoms())
def test_order_and_blocks_and_merging_do_not_matter(blocks: list[np.ndarray], random: object) -> None:
    one, merged = Centre(5), Centre(5)
    for block in blocks:
        one.add(block)
    shuffled = list(blocks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for block in shuffled:
        part = Centre(5)
        part.add(block[::-1])
        merged.merge(part)
    assert (merged.count, merged.mean.tobytes()) == (one.count, one.mean.tobytes())
    assert merged.spread == pytest.approx(one.spread, abs=1e-9)
    everything = np.concatenate([np.zeros((0, 5)), *blocks])
    if len(everything):
        assert np.allclose(one.mean, everything.mean(axis=0), atol=1e-5)
        assert one.spread == pytest.approx(np.sqrt(np.square(everything - everything.mean(0)).sum(1).mean()), abs=1e-6)


def test_what_is_stored_is_read_again_and_damage_is_seen() -> None:
    centre = Centre(64)
    centre.add(music(3))
    data = centre.to_bytes()
    again = Centre.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.mean == centre.mean).all()
    for at in (0, 9, 40, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(CentreError):
            Centre.from_bytes(bytes(damaged))
    for cut in (0, 10, len(data) - 1):
        with pytest.raises(CentreError):
            Centre.from_bytes(data[:cut])


def test_a_bad_vector_is_counted_and_changes_nothing() -> None:
    centre = Centre(2)
    centre.add([[1, 2], [np.nan, 1], [3, 4], [np.inf, 0]])
    assert (centre.count, centre.rejected) == (2, 2)
    assert centre.mean.tolist() == [2, 3]
    with pytest.raises(CentreError, match="3 numbers"):
        centre.add([1, 2, 3])


def test_centring_shows_what_the_common_direction_hides() -> None:
    vectors = music(60).astype(np.float32)
    centre = Centre(64)
    centre.add(vectors)
    pairs = np.random.default_rng(0).integers(0, len(vectors), (500, 2))
    raw = [centred_cosine(vectors[a], vectors[b], np.zeros(64, np.float32)) for a, b in pairs]
    centred = [centred_cosine(vectors[a], vectors[b], centre.mean) for a, b in pairs]
    assert np.percentile(raw, 5) > 0.85, "as it was reported of MERT"
    assert abs(np.mean(centred)) < 0.05
    assert centre.anisotropy > 0.85


def test_the_centre_itself_has_no_direction() -> None:
    mean = np.array([1, 2], np.float32)
    assert centred_units(mean[None], mean).tolist() == [[0, 0]]
    assert centred_cosine(mean, np.array([5, 6]), mean) == 0


def test_a_shift_is_told_in_units_of_the_spread() -> None:
    centre = Centre(1)
    centre.add([[0], [2]])
    assert centre.spread == 1
    assert centre.shift_from(np.array([1.5], np.float32)) == 0.5
    assert Centre(1).shift_from(np.ones(1, np.float32)) == float("inf")
