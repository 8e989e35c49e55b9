"""What reads a stranger's bytes, and what must hold of each: nothing but the declared error is raised."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mutate import mutate

from embed.weights.torch_file import as_checkpoint, state_dict, tensor, write_archive, write_state_dict
from mertd import config
from mertd.capture.address import parse
from mertd.embed.weights.checkpoint import import_checkpoint
from mertd.embed.weights.loading import from_file, load, save
from mertd.embed.weights.torch_archive import open_checkpoint
from mertd.errors import UsageError, WeightsError, WireError
from mertd.wire import decode, encode
from messages import embedding, event, status

MESSAGES = [encode(embedding()), encode(event()), encode(status())]
URLS = [
    b"device:",
    b"file:/tmp/a.wav?mix=2",
    b"pipe:-?rate=48000&channels=2&format=s16le&name=radio",
    b"synth:chords?seconds=60",
]
CONFIGURATION = b"""\
source = ["device:", "synth:chords?seconds=60"]
bind = "tcp://127.0.0.1:5590"
window = 30.0
hop = 5
layers = [1, 6]
gate = -70.0
ring = 120
late = "queue"
exit_at_end = true
"""
TOML_HEADS = [b"[" * 3000, b"{a=" * 3000, b"9" * 5000, b"1e999", b"nan", b"-inf", b'"\\u0000', b"a." * 500, b"\n[source]\n"]
PICKLE_HEADS = [
    b"X\xff\xff\xff\xff",  # text of 4 GB
    b"\x8a\xff" + b"\x7f" * 255,  # a number of 2040 bits
    b"J\xff\xff\xff\x7f",
    b"J\xff\xff\xff\xff",
    b"(" * 500,
    b"cos\nsystem\n",
    b"2" * 50,
    b"r\xff\xff\xff\xff",
]
SIZES = [-1, 0, 1, 1 << 31, 1 << 32, 1 << 62, 1 << 64, 1e300, None, "8", []]


def try_decode(chance: random.Random) -> bool:
    """Whether a mutated message was accepted: then it goes back on the wire and is read as the same."""
    topic, payload = chance.choice(MESSAGES)
    try:
        message = decode([topic, mutate(payload, chance)])
    except WireError:
        return False
    again = encode(message)
    assert encode(decode(again)) == again  # bytes, since a vector may hold NaN
    return True


def try_address(chance: random.Random) -> bool:
    """Whether a mutated source address was accepted."""
    try:
        parse(mutate(chance.choice(URLS), chance).decode("utf-8", "surrogateescape"))
    except UsageError:
        return False
    return True


def try_configuration(chance: random.Random) -> bool:
    """Whether a mutated configuration file was accepted."""
    try:
        config.load(_written(mutate(CONFIGURATION, chance, TOML_HEADS)), {})
    except UsageError:
        return False
    return True


def try_pickle(chance: random.Random) -> bool:
    """Whether a checkpoint with a mutated program, or with mutated bytes of its archive, was accepted and read."""
    if chance.random() < 0.7:
        program, storages = _small_state()
        path = write_archive(_file(), mutate(program, chance, PICKLE_HEADS), storages)
    else:
        path = _written(mutate(_small_archive(), chance))
    try:
        with open_checkpoint(path) as tensors:
            for found in tensors.values():
                assert found.read().shape == found.shape
    except WeightsError:
        return False
    return True


def try_weights(chance: random.Random) -> bool:
    """Whether safetensors with a mutated header, or a whole checkpoint of PyTorch mutated anywhere, was accepted."""
    which = chance.randrange(4)
    try:
        match which:
            case 0:
                import_checkpoint(_written(mutate(_whole_checkpoint(), chance)))
            case 1:
                header, data = _safetensors()
                size = len(header).to_bytes(8, "little")
                from_file(_written(mutate(size + header, chance, [b"\xff" * 8, b"9" * 400, b"[" * 500]) + data))
            case _:
                path = _written(_with_other_sizes(chance))
                (from_file if which == 2 else import_checkpoint)(path)
    except WeightsError:
        return False
    return True


def _with_other_sizes(chance: random.Random) -> bytes:
    """Safetensors whose header is JSON of the right length, with a shape, an offset, a type or a name that is not right."""
    header, data = _safetensors()
    entries = json.loads(header)
    name = chance.choice([key for key in entries if key != "__metadata__"])
    match chance.randrange(5):
        case 0:
            entries[name]["shape"] = [chance.choice(SIZES) for _ in range(chance.randrange(5))]
        case 1:
            entries[name]["data_offsets"][chance.randrange(2)] = chance.choice(SIZES)
        case 2:
            entries[name]["dtype"] = chance.choice(["F16", "F32", "BF16", "F8_E5M2", "I64", "BOOL", "F4", ""])
        case 3:
            entries[chance.choice([name[:-1], "", "é" * 300])] = entries.pop(name)
        case 4:
            entries["__metadata__"] = chance.choice([{"trained": "x"}, {"trained": 1}, {}, [], None])
    changed = json.dumps(entries).encode()
    return len(changed).to_bytes(8, "little") + changed + data


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mertd-fuzz-")  # removed when the process ends


def _file() -> Path:
    return Path(_folder().name, "input")


def _written(data: bytes) -> Path:
    _file().write_bytes(data)
    return _file()


@functools.cache
def _small_state() -> tuple[bytes, dict[str, bytes]]:
    values = np.arange(12, dtype=np.float32)
    items = {
        "a": tensor("0", "FloatStorage", 12, 0, (3, 4), (4, 1)),
        "b": tensor("0", "FloatStorage", 12, 2, (2,), (5,)),
        "c": tensor("1", "BFloat16Storage", 3, 0, (3,), (1,)),
    }
    return state_dict(items), {"0": values.tobytes(), "1": bytes(6)}


@functools.cache
def _small_archive() -> bytes:
    return write_archive(_file(), *_small_state()).read_bytes()


@functools.cache
def _whole_checkpoint() -> bytes:
    return write_state_dict(_file(), as_checkpoint(load("random:0?size=tiny").tensors)).read_bytes()


@functools.cache
def _safetensors() -> tuple[bytes, bytes]:
    """Header without its length, and all values."""
    save(load("random:0?size=tiny"), _file())
    file = _file().read_bytes()
    end = 8 + int.from_bytes(file[:8], "little")
    return file[8:end], file[end:]


TARGETS: dict[str, tuple[Callable[[random.Random], bool], float]] = {
    "decode": (try_decode, 1.0),
    "address": (try_address, 1.0),
    "configuration": (try_configuration, 0.02),
    "pickle": (try_pickle, 0.05),
    "weights": (try_weights, 0.01),
}
"""Each with its share of the runs, by how fast it is."""
