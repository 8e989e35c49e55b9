"""The last seconds of one stream, in memory shared between processes and addressed by absolute sample index.

Rules of this file: the memory holds samples and nothing else. Messages over pipes tell the supervisor which samples are valid;
they also order the writes of one process before the reads of another. The memory has no name: a child inherits the file
descriptor when it is spawned, so however the processes end, no audio is left behind.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_BYTES = np.dtype("<f4").itemsize
"""Bytes of one sample."""

FILL_BYTES = 1 << 20
"""Bytes that are written at once to allocate memory."""


class Ring:
    """Float32 samples [end - capacity, end) of a stream, where `end` is the end of the newest write.

    Attributes:
        capacity: samples that fit.
    """

    def __init__(self, capacity: int) -> None:
        """Allocate room for `capacity` samples. Raises `ValueError` if that is not positive, `OSError` if memory is short."""
        if capacity <= 0:
            raise ValueError(f"a ring of {capacity} samples is too small; it needs room for at least one")
        self._map(_anonymous_memory(capacity * SAMPLE_BYTES), capacity)

    def _map(self, descriptor: int, capacity: int) -> None:
        self.capacity = capacity
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, capacity * SAMPLE_BYTES)
        self._samples: NDArray[np.float32] = np.frombuffer(self._memory, "<f4")

    def write(self, start: int, samples: NDArray[np.float32]) -> None:
        """Write `samples`, (n,), to indexes [start, start + n). Raises `ValueError` if there are more than the ring holds."""
        count = len(samples)
        if count > self.capacity:
            raise ValueError(f"{count} samples do not fit a ring of {self.capacity}")
        at = start % self.capacity
        first = min(count, self.capacity - at)
        self._samples[at : at + first] = samples[:first]
        self._samples[: count - first] = samples[first:]

    def read(self, start: int, end: int) -> NDArray[np.float32]:
        """Return a copy of samples [start, end), (end - start,). Whether they were still there, `overwritten` tells afterwards.

        Raises `ValueError` for more samples than the ring holds.
        """
        if not 0 <= end - start <= self.capacity:
            raise ValueError(f"samples [{start}, {end}) from a ring of {self.capacity}")
        at = start % self.capacity
        first = self._samples[at : at + end - start]
        return np.concatenate([first, self._samples[: end - start - len(first)]])

    def overwritten(self, start: int, written: int) -> bool:
        """Return whether sample `start` may be gone, if `written` is the end of all samples that may have been written."""
        return written - start > self.capacity

    def close(self) -> None:
        """Release this process's view. The system frees the memory with the last view of any process."""
        del self._samples
        self._memory.close()
        os.close(self._descriptor)

    def __getstate__(self) -> dict[str, Any]:
        """Let a child that is being spawned inherit the memory. Raises `TypeError` at any other time."""
        if get_spawning_popen() is None:
            raise TypeError("a ring can be given to a process only when it is spawned")
        return {"descriptor": reduction.DupFd(self._descriptor), "capacity": self.capacity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._map(state["descriptor"].detach(), state["capacity"])


def _anonymous_memory(size: int) -> int:
    """Return a descriptor of `size` bytes of memory without a name."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("mertd")
        try:
            os.posix_fallocate(descriptor, 0, size)  # all of it now: a shortage later would be a SIGBUS, in any process
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    else:  # noqa: RET505 - so that a type checker for one platform sees no unreachable code
        return _memory_without_memfd(size)


def _memory_without_memfd(size: int) -> int:
    """Return a descriptor of memory that had a name for a moment: `SharedMemory` would keep it and have another process remove
    it, which complains where the memory could not be had.
    """
    import _posixshmem  # type: ignore[import-not-found, unused-ignore]

    name = f"/mertd-{secrets.token_hex(8)}"  # at most 31 characters on macOS
    descriptor: int = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    try:
        _posixshmem.shm_unlink(name)
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as memory:
            for at in range(0, size, FILL_BYTES):  # all of it now, as above: a page is allocated when it is first written
                memory[at : at + FILL_BYTES] = bytes(min(FILL_BYTES, size - at))
    except (OSError, ValueError):
        os.close(descriptor)
        raise
    return descriptor
