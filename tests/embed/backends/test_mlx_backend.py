"""What of the MLX backend does not need a GPU."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from mertd.embed.backends.batch_memory import Upload
from mertd.embed.backends.mlx_backend import MlxBackend, fastest_form
from mertd.embed.weights.loading import load
from mertd.errors import BackendError

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

mx = pytest.importorskip("mlx.core")


class Driver:
    """An NVIDIA driver's copy, in memory that both sides see: what managed memory is. And memory that it gives out: from other
    memory it copies later, unless it is waited for.
    """

    def __init__(self, status: int = 0) -> None:
        self.status, self.copied = status, 0
        self.given: list[ctypes.Array[ctypes.c_char]] = []
        self.later: list[tuple[int, bytes]] = []  # where to, and what

    def cuMemAllocHost_v2(self, pointer: Any, size: ctypes.c_size_t) -> int:  # noqa: N802
        if not self.status:
            self.given.append(ctypes.create_string_buffer(size.value))
            pointer._obj.value = ctypes.addressof(self.given[-1])
        return self.status

    def cuMemcpyHtoD_v2(self, target: ctypes.c_uint64, source: ctypes.c_void_p, size: ctypes.c_size_t) -> int:  # noqa: N802
        if not self.status:
            self.later.append((target.value, ctypes.string_at(source.value or 0, size.value)))
            self.copied += 1
        if source.value in map(ctypes.addressof, self.given):
            self.cuStreamSynchronize(None)
        return self.status

    def cuStreamSynchronize(self, stream: None) -> int:  # noqa: ARG002, N802
        for target, values in self.later:
            ctypes.memmove(target, values, len(values))
        self.later.clear()
        return self.status


def batches() -> list[np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(0))
    return [generator.standard_normal((count, 1_000)).astype(np.float32) for count in (1, 2, 1, 1, 2)]


@pytest.mark.parametrize("driver", [None, Driver()], ids=["no driver", "driver"])
def test_an_upload_is_the_batch_whatever_came_before(driver: Driver | None) -> None:
    upload = Upload(mx)
    upload._driver = driver
    for batch in batches():
        assert np.array_equal(np.array(upload(batch) + 0), batch)
        assert np.array_equal(np.array(upload(np.asfortranarray(batch[:, ::-1])) + 0), batch[:, ::-1])
    if driver is not None:
        assert driver.copied == 2 * len(batches()) - 2, "the first batch of each shape makes its memory"


@pytest.mark.slow
def test_two_batches_may_be_in_work_and_neither_disturbs_the_other() -> None:
    backend = MlxBackend(load("random:0?size=tiny"), (1, 2))
    generator = np.random.Generator(np.random.PCG64(0))
    windows = [list(generator.standard_normal((count, 4_000)).astype(np.float32)) for count in (3, 2, 4, 4)]
    expected = [backend.embed(np.stack(batch)) for batch in windows]
    waits = [backend.begin(windows[0])]
    for at, batch in enumerate(windows[1:]):
        waits.append(backend.begin(batch))
        np.testing.assert_allclose(waits[at](), expected[at], atol=1e-5)
    np.testing.assert_allclose(waits[-1](), expected[-1], atol=1e-5)


def test_a_failed_copy_is_said() -> None:
    upload = Upload(mx)
    upload._driver = Driver()
    upload(batches()[0])
    upload._driver = Driver(status=700)
    with pytest.raises(BackendError, match="CUDA error 700"):
        upload(batches()[0])


def test_fused_is_for_float16_on_cuda_alone() -> None:
    from mertd.embed.backends.mlx_backend import MlxBackend

    assert fastest_form("float32") == ("conv1d" if mx.metal.is_available() else "product")
    with pytest.raises(BackendError, match="float16"):
        MlxBackend(load("random:0?size=tiny"), (1,), "float32", "fused")


@pytest.mark.parametrize("driver", [None, Driver(), Driver(status=201)], ids=["no driver", "driver", "driver that refuses"])
def test_a_batch_fits_its_room(driver: Driver | None) -> None:
    upload = Upload(mx)
    upload._driver = driver
    for batch in batches():
        room = upload.room(batch.shape)
        assert (room.shape, room.dtype) == (batch.shape, np.float32)
        room[:] = batch
        assert np.array_equal(room, batch)
        for _ in range(0 if driver and driver.status else 2):  # the first makes its memory
            assert np.array_equal(np.array(upload(room) + 0), batch)
    if driver is not None:
        assert len(driver.given) == (0 if driver.status else 2), "one for each shape"


def test_windows_in_the_room_of_a_batch_give_what_others_give() -> None:
    from mertd.embed.backends.mlx_backend import MlxBackend

    backend = MlxBackend(load("random:0?size=tiny"), (1,))
    windows = np.random.Generator(np.random.PCG64(0)).standard_normal((3, 4_000)).astype(np.float32)
    expected = backend.embed(windows)
    for count in (3, 1, 2, 3):
        room = backend.room(count, 4_000)
        room[:] = windows[:count]
        found = backend.embed(room)
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-4)
        assert np.array_equal(backend.embed(windows[:count]), found), "others than those in the room"
