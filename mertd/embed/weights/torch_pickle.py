"""The checkpoint format of PyTorch, read without PyTorch and without executing anything.

`torch.save` writes a zip archive: `NAME/data.pkl` describes the state dict, `NAME/data/KEY` holds each storage, uncompressed.
A pickle is a program, and unpickling a stranger's file runs a stranger's code. Here the few opcodes that a state dict consists
of are interpreted on inert values, and the interpreter can neither import nor call. Every other opcode or global is refused by
name; sizes, strides and offsets are checked against the storage before anything is allocated.
"""

from __future__ import annotations

import math
import os
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.weights.stored import StoredTensor, show, unreadable
from mertd.errors import WeightsError
from mertd.files import FileError, open_regular

ZIP_MAGIC = b"PK\x03\x04"
"""First bytes of a zip archive."""

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a checkpoint of PyTorch before 1.6, which is not an archive."""

MAX_PICKLE_BYTES = 1 << 20
"""Size of `data.pkl`; MERT's has some 20 kB. This also bounds the interpreter's memory, which grows with the opcodes."""

MAX_DIRECTORY_BYTES = 1 << 20
"""Size of the archive's directory; MERT's has some 20 kB."""

MAX_DIMENSIONS = 8
"""Dimensions of a tensor."""

_BFLOAT16 = "torch.BFloat16Storage"
"""Its values are the upper halves of float32."""

_STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    _BFLOAT16: "<u2",
    "torch.DoubleStorage": "<f8",
    "torch.LongStorage": "<i8",
}
"""Class of a storage -> dtype of its values."""

_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_GLOBALS = {_DICT, _TENSOR, _PARAMETER, *_STORAGES}
"""The only names that a checkpoint may refer to."""


@dataclass(frozen=True)
class _Global:
    """One of `_GLOBALS`: only the name of a function or a class."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """`count` values of one of `_STORAGES`, `kind`, in the entry `key`; `read` fetches their bytes."""

    kind: str
    count: int
    key: str
    read: Callable[[], bytes]


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

    Raises `WeightsError` for a file that is damaged, is not a state dict, or asks for more than a state dict needs.
    """
    try:
        file = open_regular(path)
    except (OSError, FileError) as error:
        raise unreadable(path, error) from error
    with _BoundedReader(file.detach()) as bounded:
        with _faults(path):
            archive = zipfile.ZipFile(bounded)
        bounded.limit = None  # every entry's size is checked before it is read
        with archive:
            with _faults(path):
                state = _state_dict(path, archive, os.fstat(bounded.fileno()).st_size)
            yield state


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what `zipfile`, `pickletools` and the interpreter raise for damaged bytes into `WeightsError`."""
    try:
        yield
    except (
        zipfile.BadZipFile,  # structure, or a checksum that does not match
        EOFError,
        OSError,
        RuntimeError,  # zipfile: encrypted; its subclass NotImplementedError: a method or version it does not know
        ValueError,  # pickletools: truncated or unknown opcode; zipfile: an offset before the file
        LookupError,  # the interpreter: a stack, mark or memo that is empty
        TypeError,  # the interpreter: an argument of another kind than its opcode needs
        OverflowError,
        MemoryError,  # zipfile: a directory that claims to be larger than memory
        struct.error,
    ) as error:
        raise WeightsError(
            f"{path} is not a readable PyTorch checkpoint: {show(str(error)) or type(error).__name__}"
        ) from error


def _state_dict(path: Path, archive: zipfile.ZipFile, limit: int) -> dict[str, StoredTensor]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise WeightsError(f"{path} is a zip archive, but not one of PyTorch's: it has {len(roots)} entries */data.pkl, not 1")
    root = roots[0]
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
            with _faults(path):
                kept[name] = archive.read(entry)
        return kept[name]

    if root + "byteorder" in entries and fetch("byteorder") != b"little":
        raise WeightsError(f"{path} was written on a big-endian machine; save it again on a little-endian one")
    program_size = entries[root + "data.pkl"].file_size
    if program_size > MAX_PICKLE_BYTES:
        raise WeightsError(f"{path}: its data.pkl has {program_size} bytes; a state dict like MERT's has some 20,000")

    def storage(identity: object) -> _Storage:
        match identity:
            case ("storage", _Global(kind), str(key), str(), int(count)) if kind in _STORAGES and count >= 0:
                size = count * np.dtype(_STORAGES[kind]).itemsize
                return _Storage(kind, count, key, lambda: fetch(f"data/{key}", size))
        raise WeightsError(f"{path}: a persistent object that is not a tensor's storage")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickletools warns of a backslash in a global's name, which is then refused
        state = _interpret(path, fetch("data.pkl"), storage)
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds no state dict")
    if strangers := [name for name, value in state.items() if not isinstance(value, StoredTensor)]:
        raise WeightsError(f"{path}: {show(strangers[0])!r} is not a tensor; expected a plain state dict, name -> tensor")
    return state


def _interpret(path: Path, program: bytes, storage: Callable[[object], _Storage]) -> object:
    """Return what `program` leaves on the stack: dicts with string keys, tuples, scalars, and tensors through `storage`."""
    stack: list[object] = []
    marks: list[int] = []
    memo: dict[object, object] = {}
    for opcode, argument, _ in pickletools.genops(program):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack.append(tuple(stack.pop() for _ in range(size))[::-1])
            case "TUPLE":
                stack.append(tuple(_above(stack, marks.pop())))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(path, stack[-1], [key, value])
            case "SETITEMS":
                items = _above(stack, marks.pop())
                _set(path, stack[-1], items)
            case "GLOBAL":
                stack.append(_global(path, str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise WeightsError(f"{path}: a global whose name is not text")
                stack.append(_global(path, f"{module}.{attribute}"))
            case "BINPERSID":
                stack.append(storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_rebuild(path, function, arguments))
            case "BUILD":
                stack.pop()  # attributes of the dict or tensor below: the modules' versions, nothing about weights
            case "STOP":
                return stack.pop()
            case forbidden:
                raise WeightsError(f"{path}: a state dict has no use for the pickle opcode {forbidden}; refused")
    raise AssertionError("genops ends with STOP or raises")


def _above(stack: list[object], mark: int) -> list[object]:
    items = stack[mark:]
    del stack[mark:]
    return items


def _set(path: Path, target: object, items: list[object]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not (isinstance(target, dict) and isinstance(key, str)):
            raise WeightsError(f"{path}: an item that is not an entry of a dict under a name")
        target[key] = value


def _global(path: Path, name: str) -> _Global:
    if name not in _GLOBALS:
        raise WeightsError(f"{path}: asks for {show(name)!r}, which no state dict needs; refused, and nothing was executed")
    return _Global(name)


def _rebuild(path: Path, function: object, arguments: object) -> object:
    """Return what calling `function` with `arguments` would return, without calling it."""
    match function, arguments:
        case _Global(name), () if name == _DICT:
            return {}
        case _Global(name), (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if name == _TENSOR:
            return _view(path, storage, offset, shape, strides)
        case _Global(name), (StoredTensor() as tensor, *_) if name == _PARAMETER:
            return tensor
    raise WeightsError(f"{path}: {function.name if isinstance(function, _Global) else 'a call'} with arguments it cannot have")


def _view(path: Path, storage: _Storage, offset: int, shape: tuple[object, ...], strides: tuple[object, ...]) -> StoredTensor:
    """Return the tensor of `shape` values of `storage`, `strides` apart and starting at `offset`, all counted in values."""
    sizes = [n for n in shape if isinstance(n, int) and n >= 0]
    steps = [n for n in strides if isinstance(n, int) and n >= 0]
    if not len(sizes) == len(shape) == len(steps) == len(strides) <= MAX_DIMENSIONS:
        raise WeightsError(f"{path}: invalid tensor with {len(shape)} sizes and {len(strides)} strides")
    count = math.prod(sizes)
    last = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) if count else offset - 1
    if offset < 0 or last >= storage.count or max(count, *sizes, 0) > storage.count:
        raise WeightsError(f"{path}: a tensor reaches outside its storage of {storage.count} values")
    dtype = np.dtype(_STORAGES[storage.kind])

    def read() -> NDArray[Any]:
        apart = [step * dtype.itemsize for step in steps]
        with _faults(path):
            values: NDArray[Any] = np.ndarray(sizes, dtype, storage.read(), offset * dtype.itemsize, apart)
        if storage.kind == _BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32
        return values

    name = "float32" if storage.kind == _BFLOAT16 else dtype.name
    return StoredTensor(tuple(sizes), name, read, storage.key, storage.count * dtype.itemsize)
