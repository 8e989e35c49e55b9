"""The file of an index: USearch's own bytes, then the table of the segment, the frame, a description and its length.

One file, so that it is replaced in one step and its parts can never be of two builds. What could send the search to a wrong
address, the graph and the table, is checked with every opening; the vectors, which cannot, by `check_vectors` alone: they are
most of the file, and a search that a damaged one misleads is corrected by the exact refinement.

Rules of this file: only bytes; it does not know how an index is searched.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mertd.errors import MertdError
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.vector_segment import Ints, SegmentTable

LAYOUT_VERSION = 2
"""Version of this layout, and of how vectors become numbers in the index. A file of another one is built again."""

FOOTER = struct.Struct("<II8s")
"""Length of the description in bytes, its checksum, magic."""

MAGIC = b"mertdIX1"
"""Last bytes of an index file."""

MAX_DESCRIPTION_BYTES = 65_536
"""Longest description, in bytes."""

ALIGNMENT = 64
"""Multiple at which each part begins, in bytes."""

PARTS = ("ids", "start_ns", "end_ns", "streams", "mean", "basis", "runs")
"""Arrays behind USearch's bytes, in this order."""

DTYPES: Mapping[str, Any] = {
    "ids": "<i8",
    "start_ns": "<i8",
    "end_ns": "<i8",
    "streams": "<i4",
    "mean": "<f4",
    "basis": "<f4",
    "runs": "<i8",
}

COPY_BYTES = 1 << 20
"""Bytes that are read at once for a checksum."""


class IndexFileError(MertdError):
    """An index file is missing, damaged, of another version, or was built from something else."""


@dataclass(frozen=True)
class IndexContent:
    """What an index file holds beside USearch's bytes; the arrays are views of the file."""

    table: SegmentTable
    frame: Frame
    digest: str
    indexed: int  # vectors in the graph
    runs: Ints  # (n, 3): row in the graph, first and last row of a stretch that it stands for; ordered by the first column


def append_content(file: BinaryIO, content: IndexContent) -> None:
    """Write the table, the centre and the description behind the bytes of USearch that `file` already holds."""
    graph_end = file.seek(0, os.SEEK_END)  # 0 without vectors
    frame = content.frame
    graph_at = _graph_at(content.indexed, frame.directions)
    about: dict[str, Any] = {
        "layout": LAYOUT_VERSION,
        "digest": content.digest,
        "indexed": content.indexed,
        "size": len(frame.mean),
        "directions": frame.directions,
        "graph": {"at": graph_at, "bytes": graph_end - graph_at},
        "vectors_crc": _checksum(file, 0, graph_at),
    }
    about["graph"]["crc"] = _checksum(file, graph_at, graph_end)
    file.seek(0, os.SEEK_END)
    arrays = {**vars(content.table), "mean": frame.mean, "basis": frame.basis, "runs": content.runs}
    for name in PARTS:
        data = np.ascontiguousarray(arrays[name], DTYPES[name]).tobytes()
        file.write(bytes(-file.tell() % ALIGNMENT))
        about[name] = {"at": file.tell(), "bytes": len(data), "crc": zlib.crc32(data)}
        file.write(data)
    description = json.dumps(about).encode()
    file.write(description + FOOTER.pack(len(description), zlib.crc32(description), MAGIC))


def read_content(path: Path, digest: str, size: int) -> IndexContent:
    """Check an index file and return what it holds. Raises `IndexFileError`, with the reason, if it must be built again."""
    data = _mapped(path)
    about = _description(path, data)
    if about.get("layout") != LAYOUT_VERSION:
        raise IndexFileError(f"{path} has layout {about.get('layout')}; this mertd reads {LAYOUT_VERSION}")
    if about["digest"] != digest or about["size"] != size:
        raise IndexFileError(f"{path} was built from another content of its segment")
    if about["graph"]["at"] != _graph_at(about["indexed"], about["directions"]):
        raise IndexFileError(f"{path} is damaged: its parts do not fit together")
    arrays: dict[str, NDArray[Any]] = {}
    for name in ("graph", *PARTS):
        at, length = about[name]["at"], about[name]["bytes"]
        if zlib.crc32(memoryview(data)[at : at + length]) != about[name]["crc"]:
            raise IndexFileError(f"{path} is damaged: wrong checksum of its {name}")
        if name != "graph":
            arrays[name] = np.frombuffer(data, DTYPES[name], length // np.dtype(DTYPES[name]).itemsize, at)
    mean, basis = arrays.pop("mean"), arrays.pop("basis")
    runs = arrays.pop("runs")
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or len(mean) != size or len(basis) % size or len(runs) % 3 or about["indexed"] > lengths.pop():
        raise IndexFileError(f"{path} is damaged: its parts do not fit together")
    frame = Frame(mean, basis.reshape(size, -1))
    if frame.directions != about["directions"]:
        raise IndexFileError(f"{path} is damaged: its parts do not fit together")
    return IndexContent(SegmentTable(**arrays), frame, digest, about["indexed"], runs.reshape(-1, 3))


def check_vectors(path: Path) -> None:
    """Check the vectors of an index file too, which takes as long as reading it. Raises `IndexFileError` if one is damaged."""
    data = _mapped(path)
    about = _description(path, data)
    if zlib.crc32(memoryview(data)[: about["graph"]["at"]]) != about["vectors_crc"]:
        raise IndexFileError(f"{path} is damaged: wrong checksum of its vectors")


def _graph_at(indexed: int, directions: int) -> int:
    """Return where the graph begins: behind two counts, and the vectors of one byte a number."""
    return 8 + indexed * directions if indexed else 0


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise IndexFileError(f"{path} does not exist yet") from None
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise IndexFileError(f"{path} cannot be read: {error}") from error


def _description(path: Path, data: mmap.mmap) -> dict[str, Any]:
    try:
        length, checksum, magic = FOOTER.unpack(data[-FOOTER.size :])
        text = data[-FOOTER.size - length : -FOOTER.size]
        if magic != MAGIC or length > MAX_DESCRIPTION_BYTES or zlib.crc32(text) != checksum:
            raise IndexFileError(f"{path} is damaged or incomplete: its last bytes are not those of an index")
        about = json.loads(text)
    except (struct.error, ValueError) as error:
        raise IndexFileError(f"{path} is damaged or incomplete: {error}") from error
    if not isinstance(about, dict):
        raise IndexFileError(f"{path} is damaged: its description is not a table")
    return about


def _checksum(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    found, left = 0, end - start
    while left:
        chunk = file.read(min(left, COPY_BYTES))
        if not chunk:
            raise IndexFileError("the index that USearch wrote is shorter than its vectors")
        found = zlib.crc32(chunk, found)
        left -= len(chunk)
    return found
