"""Checkpoints that torch writes are read; those that an attacker or a bad disk writes give a WeightsError and nothing else."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embed.weights.torch_file import (
    ORDERED_DICT,
    call,
    global_of,
    integer,
    state_dict,
    tensor,
    text,
    tuple_of,
    write_archive,
    write_state_dict,
)
from example_counts import examples
from mertd.embed.weights.torch_archive import MAX_PICKLE_BYTES, open_checkpoint
from mertd.errors import WeightsError

FLOATS = np.arange(24, dtype=np.float32)


def read(path: Path) -> dict[str, NDArray[Any]]:
    with open_checkpoint(path) as state:
        values = {name: stored.read() for name, stored in state.items()}
        assert [array.shape for array in values.values()] == [stored.shape for stored in state.values()]
    return values


def write(path: Path, program: bytes, **more: bytes) -> Path:
    """A checkpoint whose pickle is `program` and whose storage "0" holds `FLOATS`."""
    return write_archive(path, program, {"0": FLOATS.tobytes()}, **more)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64])
def test_reads_every_dtype(tmp_path: Path, dtype: type[np.generic]) -> None:
    expected = {"a.weight": np.arange(12).astype(dtype).reshape(3, 4), "b": np.array(7).astype(dtype)}
    got = read(write_state_dict(tmp_path / "x.bin", expected))
    assert list(got) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values, strict=True)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], np.uint16)
    got = read(write_state_dict(tmp_path / "x.bin", {"a": bits}))["a"]
    np.testing.assert_array_equal(got, np.array([1, -2, np.inf, 2.0**-133], np.float32), strict=True)


def test_reads_views_of_one_storage(tmp_path: Path) -> None:
    items = {
        "transposed": tensor("0", "FloatStorage", 24, 0, (4, 6), (1, 4)),
        "middle": tensor("0", "FloatStorage", 24, 10, (5,), (2,)),
        "empty": tensor("0", "FloatStorage", 24, 24, (0,), (1,)),
    }
    got = read(write(tmp_path / "x.bin", state_dict(items)))
    np.testing.assert_array_equal(got["transposed"], FLOATS.reshape(6, 4).T)
    np.testing.assert_array_equal(got["middle"], [10, 12, 14, 16, 18])
    assert got["empty"].shape == (0,)


def test_a_parameter_is_its_tensor(tmp_path: Path) -> None:
    inner = tensor("0", "FloatStorage", 24, 0, (24,), (1,))
    program = state_dict({"a": call(global_of("torch._utils", "_rebuild_parameter"), inner, b"\x88", ORDERED_DICT)})
    np.testing.assert_array_equal(read(write(tmp_path / "x.bin", program))["a"], FLOATS)


def test_reads_protocol_4(tmp_path: Path) -> None:
    names = b"\x80\x04\x95\x30\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94"
    program = names + b"\x8c\x01a" + tensor("0", "FloatStorage", 24, 0, (24,), (1,)) + b"s."
    np.testing.assert_array_equal(read(write(tmp_path / "x.bin", program))["a"], FLOATS)


class Trap:
    """Unpickling it runs a shell command that leaves the file `trace` behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_executes_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    program = pickle.dumps(Trap(trace), protocol)
    pickle.loads(program)
    assert trace.exists(), "the trap works"
    trace.unlink()
    with pytest.raises(WeightsError, match=r"'(posix|nt)\.system'.*refused|opcode \w+; refused"):
        read(write(tmp_path / "x.bin", program))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch", "FloatStorage.from_file"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("os", "\\c"),
    ],
)
def test_names_the_forbidden_global(tmp_path: Path, module: str, name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read(write(tmp_path / "x.bin", state_dict({"a": call(global_of(module, name), text("true"))})))
    assert repr(f"{module}.{name}") in str(caught.value)
    by_stack = text(module) + text(name) + b"\x93"
    with pytest.raises(WeightsError, match="refused"):
        read(write(tmp_path / "y.bin", state_dict({"a": call(by_stack, text("true"))})))


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides"),
    [
        (24, 1, (24,), (1,)),
        (24, -1, (4,), (1,)),
        (24, 0, (25,), (1,)),
        (24, 0, (5, 5), (5, 1)),
        (24, 0, (3, 2), (12, 1)),
        (24, 0, (4,), (-1,)),
        (24, 0, (-4,), (1,)),
        (24, 0, (2**62, 2**62), (0, 0)),
        (24, 0, (1 << 40,), (0,)),
        (24, 0, (0, 1 << 40), (1, 1)),
        (24, 25, (0,), (1,)),
        (24, 0, (24,), ()),
        (24, 0, (1,) * 9, (1,) * 9),
        (1 << 40, 0, (24,), (1,)),
        (25, 0, (24,), (1,)),
        (-1, 0, (0,), (1,)),
    ],
)
def test_reads_only_within_the_storage(
    tmp_path: Path, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    program = state_dict({"a": tensor("0", "FloatStorage", count, offset, shape, strides)})
    path = write(tmp_path / "x.bin", program)
    tracemalloc.start()
    with pytest.raises(WeightsError):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_stride_beyond_the_machines_integers_is_refused(tmp_path: Path) -> None:
    program = state_dict({"a": tensor("0", "FloatStorage", 24, 0, (1, 24), (1 << 80, 1))})
    with pytest.raises(WeightsError):
        read(write(tmp_path / "x.bin", program))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"", "STOP"),
        (b"\x80\x02.", "pop from empty list"),
        (b"\x80\x02h\x05.", "5"),
        (b"\x80\x02}t.", "pop from empty list"),
        (b"\x80\x02).", "no state dict"),
        (b"\x80\x02}" + text("a") + integer(1) + b"s.", "'a' is not a tensor"),
        (b"\x80\x02}" + integer(1) + integer(1) + b"s.", "not an entry of a dict under a name"),
        (b"\x80\x02)" + text("a") + integer(1) + b"s.", "not an entry of a dict under a name"),
        (b"\x80\x02}(" + text("a") + b"u.", "zip"),
        (b"\x80\x02" + text("data") + b"Q.", "not a tensor's storage"),
        (b"\x80\x02" + call(text("len"), text("x")) + b".", "a call with arguments"),
        (b"\x80\x02" + call(global_of("collections", "OrderedDict"), text("x")) + b".", "arguments it cannot have"),
        (b"\x80\x02" + integer(1) + integer(2) + b"\x93.", "not text"),
        (b"\x80\x02]" + b".", "EMPTY_LIST; refused"),
        (b"\x80\x02\x82\x01.", "EXT1; refused"),
        (b"\x80\x02B\xff\xff\xff\xff", "expected 4294967295 bytes"),
        (b"\x80\x02)r\xff\xff\xff\x7f.", "no state dict"),
        pytest.param(b")" + b"\x85" * (MAX_PICKLE_BYTES - 3) + b".", "no state dict", marks=pytest.mark.slow),
        pytest.param(b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns.", "under a name", marks=pytest.mark.slow),
        pytest.param(b"\x80\x02" + b")" + b"\x85" * 500_000 + b"Q.", "not a tensor's storage", marks=pytest.mark.slow),
        (b"N" * MAX_PICKLE_BYTES + b".", "1048577 bytes"),
    ],
)
def test_refuses_what_is_no_state_dict(tmp_path: Path, program: bytes, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        read(write(tmp_path / "x.bin", program))


def test_refuses_archives_that_torch_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    good = state_dict({"a": tensor("0", "FloatStorage", 24, 0, (24,), (1,))})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.txt", "hello")
    with pytest.raises(WeightsError, match="not one of PyTorch's"):
        read(path)
    with pytest.raises(WeightsError, match="big-endian"):
        read(write(path, good, byteorder=b"big"))
    with pytest.raises(WeightsError, match="'archive/data/0' is missing"):
        read(write_archive(path, good, {}))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", state_dict({"a": tensor("0", "FloatStorage", 1 << 26, 0, (1,), (1,))}))
        archive.writestr("archive/data/0", bytes(1 << 28))
    with pytest.raises(WeightsError, match="uncompressed"):
        read(path)
    assert path.stat().st_size < 1_000_000, "a zip bomb"


def test_a_flipped_bit_in_a_tensor_is_seen(tmp_path: Path) -> None:
    path = write_state_dict(tmp_path / "x.bin", {"a": FLOATS})
    data = bytearray(path.read_bytes())
    data[data.index(FLOATS.tobytes()) + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="CRC"):
        read(path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "x.bin"
    state = {"encoder.a": FLOATS.reshape(4, 6), "encoder.b": FLOATS.astype(np.float16), "c": np.array([1], np.uint16)}
    return path, write_state_dict(path, state).read_bytes()


def survives(path: Path) -> None:
    try:
        read(path)
    except WeightsError:
        return


@settings(max_examples=examples(800), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_only_weights_errors(healthy: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = healthy
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    path.write_bytes(damaged[:length])
    survives(path)


@settings(max_examples=examples(800), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_pickles_raise_only_weights_errors(healthy: tuple[Path, bytes], data: st.DataObject) -> None:
    """With the archive intact and its checksums right, so that every mutation reaches the interpreter."""
    path, _ = healthy
    items = {name: tensor("0", "FloatStorage", 24, offset, (3, 2), (2, 1)) for offset, name in enumerate("ab")}
    program = bytearray(state_dict(items))
    opcodes = st.sampled_from(b"\x80()}NJKMXqrhjtu\x85\x86\x87sc\x93QRb.\x8a\x94\x88\x89BCU2")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(program) - 1))
        if data.draw(st.booleans()):
            program[at] = data.draw(st.one_of(opcodes, st.integers(0, 255)))
        else:
            program[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    survives(write(path, bytes(program)))


@settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 30),
    offset=st.integers(-2, 30),
    dimensions=st.lists(st.tuples(st.integers(-1, 30), st.integers(-1, 30)), max_size=3),
)
def test_a_view_is_numpys_own_or_an_error(
    healthy: tuple[Path, bytes], count: int, offset: int, dimensions: list[tuple[int, int]]
) -> None:
    """Against the definition: every index that the sizes allow, computed one by one, is inside the storage."""
    path, _ = healthy
    shape, strides = tuple(size for size, _ in dimensions), tuple(step for _, step in dimensions)
    storage = np.arange(count, dtype=np.float32)
    write_archive(path, state_dict({"a": tensor("0", "FloatStorage", count, offset, shape, strides)}), {"0": storage.tobytes()})
    try:
        got = read(path)["a"]
    except WeightsError:
        return
    indexes = [offset + sum(i * step for i, step in zip(index, strides, strict=True)) for index in np.ndindex(shape)]
    assert all(0 <= index < count for index in indexes)
    np.testing.assert_array_equal(got.reshape(-1), storage[indexes])


def test_a_tuple_of_strings_is_not_a_state_dict(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no state dict"):
        read(write(tmp_path / "x.bin", b"\x80\x02" + tuple_of(text("a"), text("b")) + b"."))
