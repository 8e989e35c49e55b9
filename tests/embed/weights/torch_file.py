"""Writes what `torch.save` writes, opcode by opcode and without torch, so that tests can also write what torch never would."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.architecture import POSITIONAL
from mertd.embed.weights.tensors import Half

OLD_NAMES = ("weight_g", "weight_v")
NEW_NAMES = ("parametrizations.weight.original0", "parametrizations.weight.original1")
STORAGES = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage", "u2": "BFloat16Storage"}
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"

Array = NDArray[Any]


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def global_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def tensor(key: str, kind: str, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    storage = tuple_of(text("storage"), global_of("torch", kind), text(key), text("cpu"), integer(count)) + b"Q"
    sizes, steps = tuple_of(*map(integer, shape)), tuple_of(*map(integer, strides))
    rebuild = global_of("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, storage, integer(offset), sizes, steps, b"\x89", ORDERED_DICT)


def state_dict(items: Mapping[str, bytes]) -> bytes:
    """The program of a pickled state dict, with the module versions that `Module.state_dict` attaches as an attribute."""
    entries = b"".join(text(name) + value for name, value in items.items())
    versions = ORDERED_DICT + b"(" + text("") + b"}(" + text("version") + integer(1) + b"uu"
    attributes = b"}" + text("_metadata") + versions + b"s"
    return b"\x80\x02" + ORDERED_DICT + b"(" + entries + b"u" + attributes + b"b."


def write_archive(path: Path, program: bytes, storages: Mapping[str, bytes], root: str = "archive", **more: bytes) -> Path:
    """A zip as `torch.save` makes it; `more` are further entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{root}/data.pkl", program)
        archive.writestr(f"{root}/byteorder", more.pop("byteorder", b"little"))
        for key, data in storages.items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", b"3\n")
        for name, data in more.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def write_state_dict(path: Path, state: Mapping[str, Array], **more: bytes) -> Path:
    """`state` as `torch.save(state, path)` would write it; uint16 arrays stand for bfloat16."""
    items, storages = {}, {}
    for number, (name, values) in enumerate(state.items()):
        strides = tuple(step // values.itemsize for step in np.empty(values.shape, values.dtype).strides)
        items[name] = tensor(str(number), STORAGES[values.dtype.str[1:]], values.size, 0, values.shape, strides)
        storages[str(number)] = values.tobytes()
    return write_archive(path, state_dict(items), storages, **more)


def as_checkpoint(tensors: Mapping[str, Half], names: tuple[str, str] = OLD_NAMES, prefix: str = "") -> dict[str, Array]:
    """mertd's tensors as HuBERT's own float32 state dict: (out, in, kernel), weight norm unfolded, an unused mask embedding."""
    state: dict[str, Array] = {f"{prefix}masked_spec_embed": np.ones(8, np.float32)}
    for name, half in tensors.items():
        values = half.astype(np.float32)
        if values.ndim == 3:
            values = np.ascontiguousarray(values.swapaxes(1, 2))
        if name == f"{POSITIONAL}.weight":
            gain = np.sqrt(np.square(values.astype(np.float64)).sum((0, 1), keepdims=True)).astype(np.float32)
            stretch = np.exp2(np.arange(values.shape[2]) % 5 - 2).astype(np.float32)  # the length of v must not matter
            state[f"{prefix}{POSITIONAL}.{names[0]}"] = gain
            state[f"{prefix}{POSITIONAL}.{names[1]}"] = values * stretch
        else:
            state[prefix + name] = values
    return state
