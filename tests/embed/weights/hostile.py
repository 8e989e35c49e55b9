"""Weights files that nobody would write in good faith: each is made by a function of the path it is written to."""

from __future__ import annotations

import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embed.weights.torch_file import as_checkpoint, state_dict, tensor, write_state_dict
from mertd.embed.architecture import TINY
from mertd.embed.weights.loading import load

GIGABYTE = 1 << 30
BIAS = "encoder.layer_norm.bias"
ITEM_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}

Make = Callable[[Path], object]
Entries = dict[str, Any]


def header(entries: object) -> bytes:
    return framed(json.dumps(entries).encode())


def framed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def write(content: bytes, size: int = 0) -> Make:
    """`content`, and zeros that take no room on the disk up to `size` bytes."""

    def make(path: Path) -> None:
        path.write_bytes(content)
        if size:
            os.truncate(path, size)

    return make


def healthy() -> tuple[Entries, bytes]:
    """Header and data of tiny weights."""
    entries: Entries = {}
    data = b""
    for name, values in load("random:0?size=tiny").tensors.items():
        entries[name] = {"dtype": "F16", "shape": list(values.shape), "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    return entries, data


def changed(change: Callable[[Entries], object], more: bytes = b"") -> Make:
    """Healthy weights but for what `change` does to the header, and `more` data."""

    def make(path: Path) -> None:
        entries, data = healthy()
        change(entries)
        path.write_bytes(header(entries) + data + more)

    return make


def last_as(**fields: object) -> Make:
    """Healthy weights with other fields of one entry, the last in the file, whose data stays what it was."""

    def change(entries: Entries) -> None:
        last = max(entries, key=lambda name: int(entries[name]["data_offsets"][1]))
        entries[last] = {**entries[last], **fields}

    return changed(change)


def with_dtype(code: str, value_bytes: int) -> Make:
    """Healthy weights and a bias, moved to the end, in another dtype of the right size."""

    def make(path: Path) -> None:
        entries, data = healthy()
        begin, end = entries[BIAS]["data_offsets"]
        data = data[:begin] + data[end:]
        for entry in entries.values():
            if entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [at - (end - begin) for at in entry["data_offsets"]]
        size = 64 * value_bytes
        entries[BIAS] = {"dtype": code, "shape": [64], "data_offsets": [len(data), len(data) + size]}
        path.write_bytes(header(entries) + data + bytes(size))

    return make


def names(count: int, length: int = 0) -> bytes:
    empty = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
    return header({f"t{number}".ljust(length, "x"): empty for number in range(count)})


def one(name: str, shape: list[int], size: int, dtype: str = "F16") -> bytes:
    return header({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}})


def sparse(content: bytes, size: int) -> Make:
    """`content` is a header that claims `size` bytes of data; the file has them, and none of them is on the disk."""
    return write(content, len(content) + size)


def raw(text: str) -> Make:
    return write(framed(text.encode()))


def odd_entry(entry: object) -> Make:
    return write(header({"a": entry}))


SAFETENSORS: dict[str, Make] = {
    "nothing": write(b""),
    "seven bytes": write(bytes(7)),
    "a header of no bytes": write(bytes(8)),
    "a header of 2**64 - 1 bytes": write(b"\xff" * 64),
    "a header longer than the file": write(struct.pack("<Q", 100) + b"{}"),
    "a header of 3 GB": write(struct.pack("<Q", 3 * GIGABYTE), 3 * GIGABYTE + 8),
    "a header of 2 MB of blanks": write(framed(b"{" + b" " * (2 << 20) + b"}")),
    "a header that is not UTF-8": write(framed(b'{"\xff\xfe": 1}')),
    "a header that is not JSON": raw("{'a': 1}"),
    "half a header": raw('{"a": {"dtype": "F16", "sha'),
    "a list for a header": raw("[]"),
    "a number for a header": raw("1"),
    "null for a header": raw("null"),
    "text for a header": raw('"encoder"'),
    "lists 400,000 deep": raw("[" * 400_000),
    "maps 100,000 deep": raw('{"a":' * 100_000),
    "a number of 100,000 digits": raw('{"a": ' + "9" * 100_000 + "}"),
    "a shape of 100,000 digits": raw('{"a": {"dtype": "F16", "shape": [' + "9" * 100_000 + '], "data_offsets": [0, 0]}}'),
    "a shape of NaN": raw('{"a": {"dtype": "F16", "shape": [NaN], "data_offsets": [0, 0]}}'),
    "an infinite offset": raw('{"a": {"dtype": "F16", "shape": [0], "data_offsets": [0, Infinity]}}'),
    "a name twice": raw('{"a": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}, "a": 1}'),
    "a field twice": raw('{"a": {"dtype": "F16", "dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'),
    "a number for an entry": odd_entry(1),
    "null for an entry": odd_entry(None),
    "an entry without a dtype": odd_entry({"shape": [0], "data_offsets": [0, 0]}),
    "an entry without a shape": odd_entry({"dtype": "F16", "data_offsets": [0, 0]}),
    "an entry without offsets": odd_entry({"dtype": "F16", "shape": [0]}),
    "an entry with more fields": odd_entry({"dtype": "F16", "shape": [0], "data_offsets": [0, 0], "code": "x"}),
    "a number for a dtype": odd_entry({"dtype": 16, "shape": [0], "data_offsets": [0, 0]}),
    "text for a shape": odd_entry({"dtype": "F16", "shape": "0", "data_offsets": [0, 0]}),
    "a shape of text": odd_entry({"dtype": "F16", "shape": ["0"], "data_offsets": [0, 0]}),
    "a shape of fractions": odd_entry({"dtype": "F16", "shape": [0.0], "data_offsets": [0, 0]}),
    "a shape of truth": odd_entry({"dtype": "F16", "shape": [False], "data_offsets": [0, 0]}),
    "a negative shape": odd_entry({"dtype": "F16", "shape": [-1, 0], "data_offsets": [0, 0]}),
    "nine dimensions": odd_entry({"dtype": "F16", "shape": [0] * 9, "data_offsets": [0, 0]}),
    "100,000 dimensions": odd_entry({"dtype": "F16", "shape": [0] * 100_000, "data_offsets": [0, 0]}),
    "a shape beyond 64 bits": odd_entry({"dtype": "F16", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]}),
    "nothing by very much": odd_entry({"dtype": "F16", "shape": [0, 1 << 62], "data_offsets": [0, 0]}),
    "one offset": odd_entry({"dtype": "F16", "shape": [0], "data_offsets": [0]}),
    "three offsets": odd_entry({"dtype": "F16", "shape": [0], "data_offsets": [0, 0, 0]}),
    "offsets of fractions": odd_entry({"dtype": "F16", "shape": [0], "data_offsets": [0.0, 0.0]}),
    "offsets of truth": odd_entry({"dtype": "F16", "shape": [0], "data_offsets": [False, False]}),
    "negative offsets": odd_entry({"dtype": "F16", "shape": [1], "data_offsets": [-2, 0]}),
    "offsets in reverse": odd_entry({"dtype": "F16", "shape": [0], "data_offsets": [2, 0]}),
    "offsets beyond the file": odd_entry({"dtype": "F16", "shape": [8], "data_offsets": [0, 16]}),
    "offsets beyond 64 bits": odd_entry({"dtype": "F16", "shape": [1 << 70], "data_offsets": [0, 1 << 71]}),
    "offsets of 4,000 digits": raw(
        '{"a": {"dtype": "X", "shape": [0], "data_offsets": [' + "8" * 4_000 + ", " + "9" * 4_000 + "]}}"
    ),
    "a shape of 4,000 digits": raw('{"a": {"dtype": "F16", "shape": [' + "9" * 4_000 + '], "data_offsets": [0, 0]}}'),
    "a dtype that is not known": odd_entry({"dtype": "F16; rm -rf", "shape": [0], "data_offsets": [0, 0]}),
    "a dtype of 100,000 characters": odd_entry({"dtype": "F" * 100_000, "shape": [0], "data_offsets": [0, 0]}),
    "a list for metadata": write(header({"__metadata__": []})),
    "numbers in metadata": write(header({"__metadata__": {"trained": 1}})),
    "metadata and nothing else": write(header({"__metadata__": {"trained": "true"}})),
    "no tensor": write(header({})),
    "2,000 names": write(names(2_000)),
    "100,000 names": write(names(100_000)),
    "one name of 900,000 characters": write(names(1, 900_000)),
    "900 names of 1,000 characters": write(names(900, 1_000)),
    "an empty name": write(names(1).replace(b"t0", b"", 1).replace(struct.pack("<Q", 62), struct.pack("<Q", 60), 1)),
    "names that act on a terminal": changed(lambda e: e.update({"\x1b]0;x\x07\n\r": e.pop(BIAS)})),
    "half a character in a name": changed(lambda e: e.update({"\ud800": e.pop(BIAS)})),
    "every tensor under two names": changed(lambda e: e.update({"a." + name: entry for name, entry in e.items()})),
    "two tensors in the same bytes": changed(lambda e: e[BIAS].update(data_offsets=e["feature_projection.layer_norm.bias"])),
    "a gap between tensors": changed(lambda e: e.pop(BIAS)),
    "bytes behind the last tensor": changed(lambda _: None, bytes(1_000)),
    "a longer tensor than its shape": last_as(shape=[1]),
    "3 GB behind a small tensor": sparse(one(BIAS, [64], 128), 3 * GIGABYTE),
    "3 GB in one tensor": sparse(one("big", [3 * GIGABYTE // 2], 3 * GIGABYTE), 3 * GIGABYTE),
    "3 GB in a tensor with a right name": sparse(one(BIAS, [3 * GIGABYTE // 2], 3 * GIGABYTE), 3 * GIGABYTE),
    "3 GB of zeros": write(b"", 3 * GIGABYTE),
    **{
        f"dtype {code}": with_dtype(code, value_bytes)
        for code, value_bytes in {
            "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2,
            "U32": 4, "I32": 4, "U64": 8, "I64": 8, "C64": 8, "F4": 1,
        }.items()
    },
}  # fmt: skip


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


SPECIAL: dict[str, Make] = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": fifo,
    "a socket": unix_socket,
    "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("absent"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/tty"),
}


def local(name: bytes, size: int, crc: int) -> bytes:
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 33, crc, size, size, len(name), 0) + name


def central(name: bytes, size: int, crc: int, offset: int) -> bytes:
    fields = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 33, crc, size, size, len(name), 0, 0, 0, 0, 0, offset)
    return b"PK\x01\x02" + fields + name


def end_of(count: int, size: int, offset: int) -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, size, offset, 0)


def crc_of_zeros(size: int) -> int:
    crc, block = 0, bytes(1 << 22)
    for _ in range(size >> 22):
        crc = zlib.crc32(block, crc)
    return crc


def sparse_storage(program: bytes, size: int, crc: int = 0, entry: bytes = b"a/data/0") -> Make:
    """An archive with an entry, its one storage, of `size` zeros that take no room on the disk."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(local(entry, size, crc))
            file.truncate(file.tell() + size)
            at = file.seek(0, 2)
            file.write(local(b"a/data.pkl", len(program), zlib.crc32(program)) + program)
            directory = central(entry, size, crc, 0) + central(b"a/data.pkl", len(program), zlib.crc32(program), at)
            at = file.tell()
            file.write(directory + end_of(2, len(directory), at))

    return make


def views(size: int) -> bytes:
    """A state dict of tiny weights, every tensor a view of the one storage "0" of `size` bytes."""
    items = {}
    for name, shape in TINY.tensors.items():
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
        items[name] = tensor("0", "FloatStorage", size // 4, 0, shape, strides)
    return state_dict(items)


def directory_of(size: int) -> Make:
    """An archive whose directory claims `size` bytes, which the file has and the disk has not."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(local(b"a/data.pkl", 0, 0))
            at = file.tell()
            file.truncate(at + size)
            file.seek(0, 2)
            file.write(end_of(1, size, at))

    return make


def many_entries(count: int) -> Make:
    def make(path: Path) -> None:
        directory = b"".join(central(b"%d/data.pkl" % number, 0, 0, 0) for number in range(count))
        start = local(b"0/data.pkl", 0, 0)
        path.write_bytes(start + directory + end_of(min(count, 0xFFFF), len(directory), len(start)))

    return make


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", views(1 << 26))
        archive.writestr("a/data/0", bytes(1 << 26))


def tampered(change: Callable[[bytearray], None]) -> Make:
    """Healthy tiny weights as an archive, with some bytes changed: scanners and readers have disagreed on such files."""

    def make(path: Path) -> None:
        write_state_dict(path, as_checkpoint(load("random:0?size=tiny").tensors))
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return make


def other_local_name(content: bytearray) -> None:
    """The entry itself has another name than the directory gives it."""
    at = content.index(b"archive/data.pkl")
    content[at : at + 16] = b"archive/date.pkl"


def encrypted_flag(content: bytearray) -> None:
    """The directory says that the pickle is encrypted, which it is not."""
    content[content.rindex(b"archive/data.pkl") - 46 + 8] |= 1


def wrong_checksum(content: bytearray) -> None:
    """The directory and the entry both have a checksum of the pickle that is not its own."""
    for at in (content.index(b"archive/data.pkl") - 30 + 14, content.rindex(b"archive/data.pkl") - 46 + 16):
        content[at] ^= 1


def overlapping_entries(content: bytearray) -> None:
    """The directory gives two storages the same place in the file."""
    first, second = (content.rindex(f"archive/data/{key}".encode()) - 46 + 42 for key in (1, 2))
    content[second : second + 4] = content[first : first + 4]


ARCHIVES: dict[str, Make] = {
    "another name in the entry than in the directory": tampered(other_local_name),
    "an encrypted flag": tampered(encrypted_flag),
    "a wrong checksum": tampered(wrong_checksum),
    "entries that overlap": tampered(overlapping_entries),
    "49 views of 1 GB": sparse_storage(views(GIGABYTE), GIGABYTE),
    "49 views of 3 GB": sparse_storage(views(3 * GIGABYTE), 3 * GIGABYTE),
    "a storage with a checksum of nothing": sparse_storage(views(1 << 20), 1 << 20, crc=1),
    "a byte order of 3 GB": sparse_storage(views(1 << 20), 3 * GIGABYTE, entry=b"a/byteorder"),
    "a directory of 3 GB": directory_of(3 * GIGABYTE),
    "a directory of zeros": directory_of(1 << 19),
    "100,000 entries": many_entries(100_000),
    "10,000 entries": many_entries(10_000),
    "a compressed storage": compressed,
    "a name of 1,000,000 characters": sparse_storage(state_dict({"x" * 1_000_000: b"N"}), 0),
    "a global of 900,000 characters": sparse_storage(b"\x80\x02c" + b"x" * 900_000 + b"\ny\n.", 0),
    "an archive cut short": write(local(b"a/data.pkl", 100, 0)),
}  # fmt: skip
