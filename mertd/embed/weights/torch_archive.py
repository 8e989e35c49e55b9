"""The checkpoint format of PyTorch: a zip archive, read without PyTorch and without executing anything.

`torch.save` writes `NAME/data.pkl`, which describes the state dict, and `NAME/data/KEY` for each storage, uncompressed. The
sizes that the archive claims are checked before anything is read; the pickle is interpreted by `torch_pickle`.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np

from mertd.embed.weights.foreign import DOWNLOAD
from mertd.embed.weights.naming import FROM_FAIRSEQ
from mertd.embed.weights.stored import StoredTensor, show, unreadable
from mertd.embed.weights.torch_pickle import STORAGES, Global, Storage, faults, interpret
from mertd.errors import WeightsError
from mertd.files import FileError, open_regular

ZIP_MAGIC = b"PK\x03\x04"
"""First bytes of a zip archive."""

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a checkpoint of PyTorch before 1.6, which is not an archive."""

BYTE_ORDER = b"little"
"""Content of the entry `byteorder`, which old checkpoints do not have."""

END_MAGIC = b"PK\x05\x06"
"""First bytes of the record that ends a zip archive."""

END_BYTES = 66_000
"""Bytes at the end of an archive in which that record lies: it may carry a comment of up to 65,535."""

MAX_PICKLE_BYTES = 1 << 20
"""Size of `data.pkl`; MERT's has some 20 kB. This also bounds the interpreter's memory, which grows with the opcodes."""

MAX_DIRECTORY_BYTES = 1 << 20
"""Size of the archive's directory; MERT's has some 20 kB."""


NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs put the state dict."""

FAIRSEQ_MARK = b"post_extract_proj"
"""Part of a name that only fairseq uses."""


TRAINING_MARKS = (b"optimizer", b"state_dict", b"lr_scheduler", b"hyper_parameters")
"""Parts of keys under which training programs keep more than weights, as objects that are never made here."""


class _BoundedReader(BufferedReader):
    """Reads at most `limit` bytes at a time, so that an archive cannot claim a directory of any size; None for no limit."""

    limit: int | None = MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if self.limit is None:
            return super().read(size)
        data = super().read(self.limit + 1 if size is None or size < 0 else min(size, self.limit + 1))
        if len(data) > self.limit:
            raise zipfile.BadZipFile(f"its directory takes over {self.limit:,} bytes; MERT's takes some 20,000")
        return data


@contextmanager
def open_checkpoint(path: Path) -> Iterator[dict[str, StoredTensor]]:
    """Yield the state dict in `path`, whose tensors can be read until the block ends. bfloat16 is read as float32.

    A state dict may also lie in a dict of a training program, beside its own records. Raises `WeightsError` for a file that is
    damaged, is not a state dict, or asks for more than a state dict needs.
    """
    try:
        file = open_regular(path)
    except (OSError, FileError) as error:
        raise unreadable(path, error) from error
    with _BoundedReader(file.detach()) as bounded:
        with faults(path, _cut_short(bounded)):
            archive = zipfile.ZipFile(bounded)
        bounded.limit = None  # every entry's size is checked before it is read
        with archive:
            with faults(path):
                state = _state_dict(path, archive, os.fstat(bounded.fileno()).st_size)
            yield state


def _cut_short(file: BufferedReader) -> str:
    """Return what to add to an error about the archive if its end, where the directory is, is missing. The position is kept."""
    try:
        start = max(0, os.fstat(file.fileno()).st_size - END_BYTES)
        file.seek(start)
        found = END_MAGIC in file.read(END_BYTES)
        file.seek(0)
    except OSError:
        return ""
    return "" if found else f"; its end is missing: the file is cut short, {DOWNLOAD}"


def _content(entries: Mapping[str, object]) -> str:
    """Return what an archive seems to hold, to end an error about it; empty if that is unknown."""
    inner = next((name for name in entries if name.endswith((".safetensors", ".bin", ".pt", ".pth"))), None)
    if inner is not None:
        return f"; it holds {show(inner)!r}: unpack it first, and import that"
    if any(name.endswith(".npy") for name in entries):
        return "; it is an archive of numpy arrays (.npz)"
    if any(name.endswith((".mlmodel", "Manifest.json")) for name in entries):
        return "; it is a packed Core ML package: import the checkpoint that it was made from"
    return ""


def _state_dict(path: Path, archive: zipfile.ZipFile, limit: int) -> dict[str, StoredTensor]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        other = f"it has {len(roots)} entries */data.pkl, not 1{_content(entries)}"
        raise WeightsError(f"{path} is a zip archive, but not one of PyTorch's: {other}")
    root = roots[0]
    if f"{root}constants.pkl" in entries:
        raise WeightsError(f"{path} is a program of TorchScript; load it in PyTorch and torch.save its state_dict()")
    kept: dict[str, bytes] = {}

    def fetch(name: str, size: int | None = None) -> bytes:
        """Return the bytes of an entry, checked against its checksum; its claimed size is checked before it is read.

        The last one is kept, so that a storage of which several tensors are views is read once if they are read in turn.
        """
        entry = entries.get(root + name)
        if entry is None:
            raise WeightsError(f"{path}: {show(root + name)!r} is missing from the archive")
        expected = entry.file_size if size is None else size
        if entry.compress_type != zipfile.ZIP_STORED or not entry.file_size == entry.compress_size == expected <= limit:
            raise WeightsError(f"{path}: {show(root + name)!r} should be {expected} uncompressed bytes of this file")
        if name not in kept:
            kept.clear()
            with faults(path):
                kept[name] = archive.read(entry)
        return kept[name]

    order = entries.get(root + "byteorder")
    if order is not None and (order.file_size != len(BYTE_ORDER) or fetch("byteorder") != BYTE_ORDER):
        raise WeightsError(f"{path} was written on a big-endian machine; save it again on a little-endian one")
    program_size = entries[root + "data.pkl"].file_size
    if program_size > MAX_PICKLE_BYTES:
        raise WeightsError(f"{path}: its data.pkl has {program_size} bytes; a state dict like MERT's has some 20,000")

    def storage(identity: object) -> Storage:
        match identity:
            case ("storage", Global(kind), str(key), str(), int(count)) if kind in STORAGES and count >= 0:
                size = count * np.dtype(STORAGES[kind]).itemsize
                return Storage(kind, count, key, lambda: fetch(f"data/{key}", size))
        raise WeightsError(f"{path}: a persistent object that is not a tensor's storage")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickletools warns of a backslash in a global's name, which is then refused
        program = fetch("data.pkl")
        try:
            state = interpret(path, program, storage)
        except WeightsError as error:
            if FAIRSEQ_MARK in program:
                raise WeightsError(f"{path} is {FROM_FAIRSEQ}") from error
            if any(mark in program for mark in TRAINING_MARKS):
                advice = "it is the record of a training: in PyTorch, torch.save its state dict alone"
                raise WeightsError(f"{error}; {advice}") from error
            raise
    if isinstance(state, dict):
        state = next((inner for key in NESTED if isinstance(inner := state.get(key), dict) and inner), state)
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds no state dict")
    if strangers := [name for name, value in state.items() if not isinstance(value, StoredTensor)]:
        raise WeightsError(f"{path}: {show(strangers[0])!r} is not a tensor; expected a plain state dict, name -> tensor")
    return state
