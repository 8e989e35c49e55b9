"""The safetensors format, read from a file that may come from a stranger.

A file is 8 bytes with the length of a header, the header in JSON, and the data: name -> dtype, shape and [begin, end) in the
data. The whole header is checked before a tensor is read: its length, every entry, and that the tensors cover the data without
gap or overlap, as the format demands. The `safetensors` package would map the file into memory, where a file that shrinks
meanwhile ends the process; here, reading is reading.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.weights.foreign import BEGINNING_BYTES, DOWNLOAD, describe
from mertd.embed.weights.stored import REASON_LENGTH, StoredTensor, show, unreadable, widened
from mertd.errors import WeightsError
from mertd.files import FileError, open_regular

LENGTH_BYTES = 8
"""Size of the little-endian number at the start, which says how long the header is."""

MAX_HEADER_BYTES = 1 << 20
"""MERT's header has some 25 kB."""

MAX_CLAIMED_BYTES = 100_000_000
"""The longest header that the format allows; eight bytes that claim more are not the length of one."""

MAX_DIMENSIONS = 8
"""Dimensions of a tensor."""

DTYPES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E4M3": ("float8", 1),
    "F8_E5M2": ("float8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
}
"""Names of dtypes in the format -> numpy's name, and bytes per value. Of other dtypes the size is not checked."""


@dataclass(frozen=True)
class SafetensorsFile:
    """The checked header of an open file."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


@dataclass(frozen=True)
class _Entry:
    """The description of one tensor, whose values are bytes [begin, end) of the data."""

    dtype: str  # as numpy calls it
    shape: tuple[int, ...]
    begin: int
    end: int


@contextmanager
def open_safetensors(path: Path, otherwise: str = "is not a readable safetensors file") -> Iterator[SafetensorsFile]:
    """Open `path`, whose tensors can be read until the block ends. `otherwise`: what an error says that the file is not.

    Raises `WeightsError` if it is not a regular file, or not a valid safetensors file. Reading raises it if the file shrinks.
    """
    try:
        file = open_regular(path)
    except (OSError, FileError) as error:
        raise unreadable(path, error) from error
    with file:
        try:
            header = _read_header(file)
        except (OSError, ValueError, RecursionError) as error:  # json raises the last for brackets nested too deep
            raise WeightsError(f"{path} {otherwise}: {_reason(file, error)}") from error
        yield header


def _reason(file: BufferedReader, error: Exception) -> str:
    """Return why a file has no valid header: what it is instead, if that can be told, or what is wrong with its header."""
    if not isinstance(error, OSError):
        try:
            file.seek(0)
            beginning = file.read(BEGINNING_BYTES)
        except OSError:
            beginning = b""
        if not _is_begun(beginning) and (instead := describe(beginning, os.fstat(file.fileno()).st_size)):
            return f"it is {instead}"
    return "its header is nested too deep" if isinstance(error, RecursionError) else show(str(error), REASON_LENGTH)


def _is_begun(beginning: bytes) -> bool:
    """Return whether this is the beginning of a safetensors file, so that a fault in it is damage."""
    length = int.from_bytes(beginning[:LENGTH_BYTES], "little")
    return length < MAX_CLAIMED_BYTES and beginning[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"


def _read_header(file: BufferedReader) -> SafetensorsFile:
    """Raises `ValueError` for anything that the format does not allow."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
        cut = f"; the file is cut short, {DOWNLOAD}" if length < MAX_CLAIMED_BYTES and file.read(1) == b"{" else ""
        raise ValueError(f"its header would take {length:,} bytes, and the file has {size:,}{cut}")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header takes {length:,} bytes; MERT's takes under {MAX_HEADER_BYTES:,}")
    entries = _parse(file.read(length))
    metadata = entries.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata  # some programs write null
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not a map of text")
    start = LENGTH_BYTES + length
    found = {name: _check_entry(name, entry) for name, entry in entries.items()}
    _check_spans(found, size - start)
    tensors = {
        name: StoredTensor(entry.shape, entry.dtype, partial(_read, file, name, entry, start), name, entry.end - entry.begin)
        for name, entry in found.items()
    }
    return SafetensorsFile(tensors, metadata)


def _parse(header: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name occurs twice in its header")
        return found

    entries = json.loads(header.decode(), object_pairs_hook=unique)
    if not isinstance(entries, dict):
        raise ValueError("its header is not a map")
    return entries


def _check_entry(name: str, entry: object) -> _Entry:
    """Return the description of the tensor `name`. Raises `ValueError` if it is not a valid one."""
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)], **rest} if not rest:
            pass
        case _:
            raise ValueError(f"{show(name)} is not described by dtype, shape and data_offsets alone")
    if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)) or begin > end:
        raise ValueError(f"{show(name)} has a shape or offsets that cannot be")
    dtype, value_bytes = DTYPES.get(code, (code, 0))
    if value_bytes and math.prod(shape) * value_bytes != end - begin:
        raise ValueError(f"{show(name)} has {end - begin:,} bytes, which do not fit its shape and dtype")
    return _Entry(dtype, tuple(shape), begin, end)


def _check_spans(entries: dict[str, _Entry], size: int) -> None:
    """Raises `ValueError` if the tensors do not cover the `size` bytes of the data without gap or overlap."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise ValueError(f"the data of {show(name)} begins at {entry.begin:,}, but the tensor before it ends at {at:,}")
        at = entry.end
    if at != size:
        cut = f"; the file is cut short, {DOWNLOAD}" if at > size else ""
        raise ValueError(f"its tensors take {at:,} bytes, and the file has {size:,} for them{cut}")


def _read(file: BufferedReader, name: str, entry: _Entry, start: int) -> NDArray[Any]:
    """Return the values of a tensor, bfloat16 as float32. `start`: where the data begins in the file."""
    is_bfloat16 = entry.dtype == "bfloat16"
    values: NDArray[Any] = np.empty(entry.shape, np.dtype("uint16" if is_bfloat16 else entry.dtype).newbyteorder("<"))
    try:
        file.seek(start + entry.begin)
        count = file.readinto(values.reshape(-1).view(np.uint8).data)
    except OSError as error:
        raise WeightsError(f"cannot read {show(name)}: {error.strerror or error}") from error
    if count < values.nbytes:
        raise WeightsError(f"cannot read {show(name)}: the file has become shorter meanwhile")
    return widened(values) if is_bfloat16 else values
