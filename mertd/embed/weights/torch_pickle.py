"""The pickle in a checkpoint of PyTorch, interpreted without executing anything.

A pickle is a program, and unpickling a stranger's file runs a stranger's code. Here the few opcodes that a state dict consists
of are interpreted on inert values, and the interpreter can neither import nor call. Every other opcode or global is refused by
name; sizes, strides and offsets are checked against the storage before anything is allocated.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.weights.stored import REASON_LENGTH, StoredTensor, show, widened
from mertd.errors import WeightsError

MAX_DIMENSIONS = 8
"""Dimensions of a tensor."""

_BFLOAT16 = "torch.BFloat16Storage"
"""Its values are the upper halves of float32."""

STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    _BFLOAT16: "<u2",
    "torch.DoubleStorage": "<f8",
    "torch.LongStorage": "<i8",
}
"""Class of a storage -> dtype of its values."""

_DICT = "collections.OrderedDict"
"""Makes an empty dict."""

_TENSOR = "torch._utils._rebuild_tensor_v2"
"""Makes a tensor: a view of a storage."""

_PARAMETER = "torch._utils._rebuild_parameter"
"""Makes a parameter, which is a tensor."""

_GLOBALS = {_DICT, _TENSOR, _PARAMETER, *STORAGES}
"""The only names that a checkpoint may refer to."""


@dataclass(frozen=True)
class Global:
    """One of `_GLOBALS`: only the name of a function or a class."""

    name: str


@dataclass(frozen=True)
class Storage:
    """`count` values of one of `STORAGES`, `kind`, in the entry `key`; `read` fetches their bytes."""

    kind: str
    count: int
    key: str
    read: Callable[[], bytes]


@contextmanager
def faults(path: Path, more: str = "") -> Iterator[None]:
    """Turn what `zipfile`, `pickletools` and the interpreter raise for damaged bytes into `WeightsError`, ended by `more`."""
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
            f"{path} is not a readable PyTorch checkpoint: {show(str(error), REASON_LENGTH) or type(error).__name__}{more}"
        ) from error


def interpret(path: Path, program: bytes, storage: Callable[[object], Storage]) -> object:
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


def _global(path: Path, name: str) -> Global:
    if name not in _GLOBALS:
        raise WeightsError(f"{path}: asks for {show(name)!r}, which no state dict needs; refused, and nothing was executed")
    return Global(name)


def _rebuild(path: Path, function: object, arguments: object) -> object:
    """Return what calling `function` with `arguments` would return, without calling it."""
    match function, arguments:
        case Global(name), () if name == _DICT:
            return {}
        case Global(name), (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if name == _TENSOR:
            return _view(path, storage, offset, shape, strides)
        case Global(name), (StoredTensor() as tensor, *_) if name == _PARAMETER:
            return tensor
    raise WeightsError(f"{path}: {function.name if isinstance(function, Global) else 'a call'} with arguments it cannot have")


def _view(path: Path, storage: Storage, offset: int, shape: tuple[object, ...], strides: tuple[object, ...]) -> StoredTensor:
    """Return the tensor of `shape` values of `storage`, `strides` apart and starting at `offset`, all counted in values."""
    sizes = [n for n in shape if isinstance(n, int) and n >= 0]
    steps = [n for n in strides if isinstance(n, int) and n >= 0]
    if not len(sizes) == len(shape) == len(steps) == len(strides) <= MAX_DIMENSIONS:
        raise WeightsError(f"{path}: invalid tensor with {len(shape)} sizes and {len(strides)} strides")
    count = math.prod(sizes)
    last = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) if count else offset - 1
    if offset < 0 or last >= storage.count or max(count, *sizes, 0) > storage.count:
        raise WeightsError(f"{path}: a tensor reaches outside its storage of {storage.count} values")
    dtype = np.dtype(STORAGES[storage.kind])

    def read() -> NDArray[Any]:
        apart = [step * dtype.itemsize for step in steps]
        with faults(path):
            values: NDArray[Any] = np.ndarray(sizes, dtype, storage.read(), offset * dtype.itemsize, apart)
        if storage.kind == _BFLOAT16:
            return widened(values)
        return values

    name = "bfloat16" if storage.kind == _BFLOAT16 else dtype.name
    return StoredTensor(tuple(sizes), name, read, storage.key, storage.count * dtype.itemsize)
