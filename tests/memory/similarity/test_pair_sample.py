from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.similarity.array_segment import HOP_NS, music, steady_table
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.pair_sample import APART_NS, MIN_VECTORS, PairSample, SampleError


def sample(vectors: np.ndarray, hop_ns: int = HOP_NS, seed: int = 0, limit: int = 512) -> PairSample:
    table = steady_table(len(vectors), hop_ns=hop_ns)
    made = PairSample(vectors.shape[1], seed, limit)
    made.add(table.start_ns, table.streams, vectors)
    return made


VECTORS = music(40, 8)


@given(st.lists(st.integers(0, len(VECTORS)), max_size=5), st.booleans(), st.integers(0, 3))
def test_order_repetition_and_merging_do_not_matter(cuts: list[int], backwards: bool, again: int) -> None:
    table = steady_table(len(VECTORS))
    whole = sample(VECTORS, limit=50)
    edges = sorted({0, *cuts, len(VECTORS)})
    parts = list(pairwise(edges))
    merged = PairSample(8, limit=50)
    for first, last in (parts[::-1] if backwards else parts) + parts[:again]:
        part = PairSample(8, limit=50)
        part.add(table.start_ns[first:last], table.streams[first:last], VECTORS[first:last])
        merged.merge(part)
    assert merged.to_bytes() == whole.to_bytes()
    assert len(whole) == 50


def test_too_few_pairs_are_said_to_be_too_few() -> None:
    an_hour = sample(music(18))  # 720 windows every 5 s: no pair is farther apart than an hour
    calibration = an_hour.calibrate(np.zeros(64, np.float32))
    assert (calibration.pairs, calibration.percentile(0.9)) == (0, None)
    assert "too few" in calibration.describe()
    few = sample(music(2), hop_ns=APART_NS).calibrate(np.zeros(64, np.float32))
    assert few.pairs == 80 * 79 // 2
    assert few.vectors == 80 < MIN_VECTORS
    assert few.percentile(0.9) is None


def test_the_percentile_is_the_share_of_far_pairs_that_are_less_similar() -> None:
    vectors = music(100)
    centre = Centre(64)
    centre.add(vectors)
    calibration = sample(vectors).calibrate(centre.mean)
    assert calibration.enough
    assert f"{calibration.pairs:,} pairs" in calibration.describe()
    unit = vectors.astype(np.float64) - centre.mean
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first, second = np.random.default_rng(0).integers(0, len(unit), (2, 20_000))
    far = np.abs(first - second) * HOP_NS >= APART_NS
    truth = np.einsum("ij,ij->i", unit[first[far]], unit[second[far]])
    for similarity in (-0.2, 0.0, 0.3):
        assert calibration.percentile(similarity) == pytest.approx(100 * (truth < similarity).mean(), abs=5)
    assert 0 < calibration.percentile(-1.0) < calibration.percentile(0.0) < calibration.percentile(1.0) < 100  # type: ignore[operator]


def test_what_is_stored_is_read_again_and_damage_is_seen() -> None:
    data = sample(VECTORS, seed=3).to_bytes()
    assert PairSample.from_bytes(data).to_bytes() == data
    for at in (0, 8, 30, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(SampleError):
            PairSample.from_bytes(bytes(damaged))
    with pytest.raises(SampleError):
        PairSample.from_bytes(data[:-5])


def test_samples_of_different_seeds_or_sizes_do_not_mix() -> None:
    with pytest.raises(SampleError):
        sample(VECTORS, seed=1).merge(sample(VECTORS, seed=2))
    with pytest.raises(SampleError):
        sample(VECTORS).merge(sample(music(1, 9)))


def test_a_vector_that_is_not_finite_is_left_out() -> None:
    vectors = VECTORS.copy()
    vectors[::2, 0] = np.inf
    assert len(sample(vectors, limit=10_000)) == len(vectors) // 2
