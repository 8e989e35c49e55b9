"""The index file is right, or it is thrown away and built again; it is never believed when it is damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from memory.similarity.array_segment import ArraySegment, music
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.frame import to_int8
from mertd.memory.similarity.index_layout import IndexFileError, check_vectors
from mertd.memory.similarity.segment_index import SUFFIX, build_index, ensure_index, open_index

VECTORS = music(30)


def centre_of(vectors: np.ndarray) -> Centre:
    centre = Centre(vectors.shape[1])
    centre.add(vectors)
    return centre


@pytest.fixture
def built(tmp_path: Path) -> tuple[ArraySegment, Path]:
    segment = ArraySegment(VECTORS)
    path = tmp_path / f"{segment.name}{SUFFIX}"
    build_index(segment, centre_of(VECTORS).mean, path)
    return segment, path


def test_it_finds_what_lies_near(built: tuple[ArraySegment, Path]) -> None:
    segment, path = built
    index = open_index(segment, path)
    assert len(index) == len(VECTORS) // 6 + 1
    assert len(index.table) == len(VECTORS)
    rows, scores = index.candidates(index.seen(VECTORS[600]), 5)
    assert rows[0] == 600
    assert scores[0] == pytest.approx(1, abs=1e-3)
    assert (np.diff(scores) <= 0).all()
    assert list(path.parent.iterdir()) == [path], "nothing else is left there"


def test_every_damage_of_what_leads_the_search_is_seen(built: tuple[ArraySegment, Path]) -> None:
    segment, path = built
    data = path.read_bytes()
    graph_at = 8 + len(open_index(segment, path)) * 64
    generator = np.random.default_rng(0)
    places = [*generator.integers(graph_at, len(data), 60), graph_at, len(data) - 1]
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(generator.integers(0, 8))
        path.write_bytes(damaged)
        try:
            again = open_index(segment, path)
        except IndexFileError:
            continue
        assert not data[at], f"byte {at} can only be padding"
        assert again.candidates(again.seen(VECTORS[600]), 1)[0][0] == 600
    for cut in (0, 1, 8, graph_at // 2, graph_at + 10, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(IndexFileError):
            open_index(segment, path)


def test_a_damaged_vector_is_found_by_the_full_check(built: tuple[ArraySegment, Path]) -> None:
    segment, path = built
    check_vectors(path)
    data = bytearray(path.read_bytes())
    data[200] ^= 0x55
    path.write_bytes(data)
    index = open_index(segment, path)
    assert len(index.candidates(index.seen(VECTORS[0]), 3)[0]) == 3, "the search goes on"
    with pytest.raises(IndexFileError, match="vectors"):
        check_vectors(path)


def test_an_index_of_something_else_is_built_again(built: tuple[ArraySegment, Path], caplog: pytest.LogCaptureFixture) -> None:
    segment, path = built
    centre = centre_of(VECTORS)
    before = path.read_bytes()
    with caplog.at_level(logging.INFO):
        ensure_index(segment, path.parent, centre)
        assert path.read_bytes() == before, "it was in order"
        assert not caplog.records
        segment.digest = "another"
        assert len(ensure_index(segment, path.parent, centre)) == len(VECTORS) // 6 + 1
        assert "another content" in caplog.text
        path.write_bytes(before.replace(b'"layout": 2', b'"layout": 3'))
        with pytest.raises(IndexFileError):
            open_index(segment, path)
        path.write_bytes(b"")
        ensure_index(segment, path.parent, centre)
        path.unlink()
        ensure_index(segment, path.parent, centre)
    assert len(caplog.records) == 3


def test_it_is_built_again_once_the_centre_has_moved(built: tuple[ArraySegment, Path]) -> None:
    segment, path = built
    centre = centre_of(VECTORS)
    assert not open_index(segment, path).stale(centre)
    centre.add(VECTORS.astype(np.float32) + 0.5)
    assert open_index(segment, path).stale(centre)
    assert not ensure_index(segment, path.parent, centre).stale(centre)


def test_an_empty_segment_has_an_index_too(tmp_path: Path) -> None:
    segment = ArraySegment(np.zeros((0, 64), np.float16))
    index = ensure_index(segment, tmp_path, centre_of(VECTORS))
    assert len(index) == 0
    assert len(index.candidates(index.seen(VECTORS[0]), 5)[0]) == 0


def test_a_build_that_fails_leaves_the_old_file(built: tuple[ArraySegment, Path]) -> None:
    _, path = built
    before = path.read_bytes()

    class Failing(ArraySegment):
        def vectors(self, ids: np.ndarray) -> np.ndarray:  # noqa: ARG002
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        build_index(Failing(VECTORS), centre_of(VECTORS).mean, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_int8_keeps_the_direction_also_with_one_large_channel() -> None:
    units = np.random.default_rng(0).standard_normal((20, 768)).astype(np.float32)
    units[:10, 3] = 60
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    stored = to_int8(units).astype(np.float32)
    cosines = (stored * units).sum(1) / np.linalg.norm(stored, axis=1)
    assert cosines.min() > 0.998
    assert not to_int8(np.zeros((1, 5), np.float32)).any()
