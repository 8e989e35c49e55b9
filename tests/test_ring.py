"""The ring against a plain array, and across a real process."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import ring_writer
from mertd.ring import SAMPLE_BYTES, Ring, _memory_without_memfd

SPAWN = multiprocessing.get_context("spawn")
SHARED = Path("/dev/shm")
CAPACITY = 12_347  # a size that no other file in /dev/shm has


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(CAPACITY)
    yield ring
    ring.close()


def numbers(start: float, count: int) -> NDArray[np.float32]:
    return np.arange(start, start + count, dtype=np.float32)


def test_without_memfd_no_name_is_left_and_a_shortage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    before = set(SHARED.iterdir()) if SHARED.is_dir() else set()
    descriptor = _memory_without_memfd(3_000_000)
    assert os.fstat(descriptor).st_size >= 3_000_000
    os.close(descriptor)

    def short(_descriptor: int, _size: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "ftruncate", short)
    gc.collect()  # what earlier tests left must not be closed meanwhile
    open_before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(OSError, match="no memory"):
        _memory_without_memfd(1000)
    assert len(list(Path("/dev/fd").iterdir())) == open_before
    assert not SHARED.is_dir() or not {path for path in set(SHARED.iterdir()) - before if path.name.startswith("mertd-")}


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="elsewhere the system tells nobody")
def test_all_memory_is_there_from_the_start() -> None:
    """What is only promised may be missing later: the writer would die of it."""
    ring = Ring(1_000_000)
    assert os.fstat(ring._descriptor).st_blocks * 512 >= 1_000_000 * SAMPLE_BYTES
    ring.close()


@given(
    capacity=st.integers(1, 50),
    first=st.integers(0, 10_000),
    writes=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=20),
    data=st.data(),
)
def test_reads_what_a_plain_array_holds(capacity: int, first: int, writes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Writes follow each other; a few go back a little, as a capture process does that takes over from a dead one."""
    ring, slots, end, value = Ring(capacity), {}, first, 0.0
    for length, back in writes:
        start = max(first, end - back)
        end = start + min(length, capacity)
        ring.write(start, numbers(value, end - start))
        for index in range(start, end):
            slots[index % capacity] = (index, value)
            value += 1
    oldest = end
    while slots.get((oldest - 1) % capacity, (None, 0))[0] == oldest - 1:
        oldest -= 1
    start = data.draw(st.integers(oldest, end))
    stop = data.draw(st.integers(start, end))
    assert ring.read(start, stop).tolist() == [slots[index % capacity][1] for index in range(start, stop)]
    ring.close()


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_overwritten_says_whether_a_sample_is_still_there(capacity: int) -> None:
    ring = Ring(capacity)
    for index in range(30):
        ring.write(index, numbers(index, 1))
        for start in range(index + 1):
            is_there = ring.read(start, start + 1)[0] == start
            assert ring.overwritten(start, index + 1) is not is_there
    ring.close()


@pytest.mark.parametrize("at", [0, 1, CAPACITY - 1, CAPACITY, 5 * CAPACITY - 3])
def test_a_full_ring_wraps_around(ring: Ring, at: int) -> None:
    ring.write(at, numbers(7, CAPACITY))
    assert np.array_equal(ring.read(at, at + CAPACITY), numbers(7, CAPACITY))
    assert np.array_equal(ring.read(at + CAPACITY - 5, at + CAPACITY), numbers(7 + CAPACITY - 5, 5))


def test_a_read_is_a_copy(ring: Ring) -> None:
    ring.write(0, numbers(1, 10))
    copy = ring.read(0, 10)
    ring.write(0, numbers(100, 10))
    assert np.array_equal(copy, numbers(1, 10))


def test_what_does_not_fit_is_refused_and_changes_nothing(ring: Ring) -> None:
    ring.write(0, numbers(1, CAPACITY))
    with pytest.raises(ValueError, match=f"{CAPACITY + 1} samples do not fit a ring of {CAPACITY}"):
        ring.write(0, numbers(5, CAPACITY + 1))
    assert np.array_equal(ring.read(0, CAPACITY), numbers(1, CAPACITY))


@pytest.mark.parametrize(("start", "end"), [(0, CAPACITY + 1), (10, 9)])
def test_a_read_of_more_than_it_holds_or_of_less_than_nothing_is_refused(ring: Ring, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="samples"):
        ring.read(start, end)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_has_room(capacity: int) -> None:
    with pytest.raises(ValueError, match="a ring of"):
        Ring(capacity)


def test_it_crosses_to_a_spawned_process_and_survives_its_death(ring: Ring) -> None:
    ours, theirs = SPAWN.Pipe()
    start = 3 * CAPACITY - 100  # across the seam
    writer = SPAWN.Process(target=ring_writer.main, args=(ring, start, 4_000, theirs))
    writer.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() == CAPACITY
    assert np.array_equal(ring.read(start, start + 4_000), numbers(start, 4_000))
    assert not named_memory()
    writer.kill()
    writer.join()
    ours.close()
    assert np.array_equal(ring.read(start, start + 4_000), numbers(start, 4_000))
    assert not named_memory()


def test_it_is_pickled_for_a_new_process_only(ring: Ring) -> None:
    with pytest.raises(TypeError, match="only when it is spawned"):
        pickle.dumps(ring)


def test_closing_gives_memory_and_descriptor_back() -> None:
    gc.collect()
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    rings = [Ring(1_000) for _ in range(5)]
    assert len(os.listdir("/dev/fd")) >= before + 5  # noqa: PTH208
    for ring in rings:
        ring.close()
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def named_memory() -> list[str]:
    """Shared memory objects with a name that could be this ring."""
    if not SHARED.is_dir():  # macOS shows none
        return []
    sizes = {}
    for path in SHARED.iterdir():
        try:
            sizes[path.name] = path.stat().st_size
        except FileNotFoundError:  # of another process, just gone
            continue
    return [name for name, size in sizes.items() if size == CAPACITY * SAMPLE_BYTES]
