"""msgpack read by the letter of its specification (github.com/msgpack/msgpack/blob/master/spec.md), to check bytes made with a
library against something that shares no code with it. Extension types are left out: the wire has none.
"""

from __future__ import annotations

import struct
from typing import Any

_FIXED = {  # first byte: struct format of what follows
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_SIZED = {  # first byte: what it begins, struct format of its length
    0xC4: ("bin", ">B"),
    0xC5: ("bin", ">H"),
    0xC6: ("bin", ">I"),
    0xD9: ("str", ">B"),
    0xDA: ("str", ">H"),
    0xDB: ("str", ">I"),
    0xDC: ("array", ">H"),
    0xDD: ("array", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def read(data: bytes) -> Any:
    """The one value in `data`. Raises `ValueError` for anything else."""
    value, rest = _value(data)
    if rest:
        raise ValueError(f"{len(rest)} bytes too many")
    return value


def _value(data: bytes) -> tuple[Any, bytes]:
    if not data:
        raise ValueError("nothing where a value should be")
    first, data = data[0], data[1:]
    if first <= 0x7F:
        return first, data
    if first >= 0xE0:
        return first - 0x100, data
    if first <= 0x8F:
        return _collection("map", first & 0x0F, data)
    if first <= 0x9F:
        return _collection("array", first & 0x0F, data)
    if first <= 0xBF:
        return _collection("str", first & 0x1F, data)
    if first in _CONSTANTS:
        return _CONSTANTS[first], data
    if first in _FIXED:
        return _number(_FIXED[first], data)
    if first in _SIZED:
        kind, form = _SIZED[first]
        size, data = _number(form, data)
        return _collection(kind, size, data)
    raise ValueError(f"byte {first:#x} begins nothing that the wire uses")


def _number(form: str, data: bytes) -> tuple[Any, bytes]:
    size = struct.calcsize(form)
    return struct.unpack(form, data[:size])[0], data[size:]


def _collection(kind: str, size: int, data: bytes) -> tuple[Any, bytes]:
    if kind in ("bin", "str"):
        if len(data) < size:
            raise ValueError(f"{size} bytes announced, {len(data)} left")
        taken, data = data[:size], data[size:]
        return (taken if kind == "bin" else taken.decode()), data
    items = []
    for _ in range(size * (2 if kind == "map" else 1)):
        item, data = _value(data)
        items.append(item)
    if kind == "array":
        return items, data
    keys = items[::2]
    if len(set(keys)) != len(keys):
        raise ValueError("a key twice")
    return dict(zip(keys, items[1::2], strict=True)), data
