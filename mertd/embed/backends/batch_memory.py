"""Memory for the batches of the MLX backend: where windows are put together, and how they get to the device."""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mertd.embed.backends.backend import Array
from mertd.errors import BackendError

Lane = tuple[Callable[[Array], Any], "BatchRoom"]
"""What copies a batch to the device, and memory that it copies fastest from."""


@dataclass
class BatchMemory:
    """Memory for batches that are computed at once, and for two that are begun: one may be computed while one is copied."""

    room: BatchRoom
    lanes: deque[Lane]


class BatchRoom:
    """Memory for one batch. Batches are filled up to a power of two of windows, so that few shapes are ever compiled."""

    def __init__(self, make: Callable[[tuple[int, int]], Array]) -> None:
        """`make`: returns memory of a shape."""
        self._make = make
        self._whole = np.empty((0, 0), np.float32)

    def lend(self, count: int, length: int) -> Array:
        """Return memory for `count` windows, (count, length), which is that of the batch before if it has the same shape."""
        shape = _filled_up(count), length
        if self._whole.shape != shape:
            self._whole = self._make(shape)
        return self._whole[:count]

    def filled_up(self, windows: Array) -> Array:
        """Return a batch that begins with `windows`; what comes behind them is any."""
        count, length = windows.shape
        shape = _filled_up(count), length
        if windows.shape == shape:
            return windows
        if self._whole.shape == shape and self._whole.ctypes.data == windows.ctypes.data:
            return self._whole
        return np.pad(windows, ((0, shape[0] - count), (0, 0)))


def _filled_up(count: int) -> int:
    return 1 << (count - 1).bit_length()


class Upload:
    """Copies windows to an NVIDIA GPU with one call of its driver.

    `mx.array` fills managed memory, which the GPU then fetches page by page as its kernels touch it: 1.7 ms for a window of
    30 s on an H100, against 0.4 for the copy. The next batch of the same shape uses the memory again, so a batch must have
    been computed before the next one is uploaded. The copy is fastest from `room`: other memory the driver copies first, and of
    such a copy it does not say by itself when it is over, which has given others wrong results (LMCache #4830).
    """

    def __init__(self, mx: Any) -> None:
        self._mx = mx
        self._kept: dict[tuple[int, ...], tuple[Any, int]] = {}
        self._rooms: dict[tuple[int, int], Array] = {}  # that the GPU reads itself
        try:
            self._driver: Any = ctypes.CDLL("libcuda.so.1")
        except OSError:
            self._driver = None

    def __call__(self, batch: Array) -> Any:
        """Return an MLX array with the values of `batch`, (batch, samples) float32."""
        if self._driver is None:
            return self._mx.array(batch)
        if batch.shape not in self._kept:
            array = self._mx.array(batch)
            self._mx.eval(array)
            self._kept[batch.shape] = array, int(np.array(array, copy=False).ctypes.data)
            return array
        array, address = self._kept[batch.shape]
        source = np.ascontiguousarray(batch, np.float32)
        size = ctypes.c_size_t(source.nbytes)
        failed = self._driver.cuMemcpyHtoD_v2(ctypes.c_uint64(address), ctypes.c_void_p(source.ctypes.data), size)
        if all(source.ctypes.data != room.ctypes.data for room in self._rooms.values()):
            failed = failed or self._driver.cuStreamSynchronize(None)
        if failed:
            raise BackendError(f"the GPU's driver could not copy a window (CUDA error {failed})")
        return array

    def room(self, shape: tuple[int, int]) -> Array:
        """Return memory of `shape` that stays where it is, so that the GPU reads it itself; the same one each time."""
        if shape not in self._rooms:
            pointer = ctypes.c_void_p()
            size = math.prod(shape) * np.dtype(np.float32).itemsize
            if self._driver is None or self._driver.cuMemAllocHost_v2(ctypes.byref(pointer), ctypes.c_size_t(size)):
                return np.empty(shape, np.float32)
            memory = (ctypes.c_byte * size).from_address(pointer.value or 0)  # the system takes it back with the process
            self._rooms[shape] = np.frombuffer(memoryview(memory).cast("B"), np.float32).reshape(shape)
        return self._rooms[shape]
