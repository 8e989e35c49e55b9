"""Maps that a message carries, made to fit the wire: errors, names and descriptions come from outside and may be of any size.

Rules of this file: pure; never raises; what is cut says how much was cut.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from mertd.text import MAX_TEXT, encodable, shorten

MAX_MAP = 300_000
"""Bytes of one map, at most: a payload has room for 1,048,576. A status has three maps, with limits of their own."""

MAX_DEPTH = 16
"""Maps and lists within each other."""

MAX_KEY = 200
"""Characters of a key."""

TEXT_LIMITS = (MAX_TEXT, 500, 120, 30)
"""Characters of each text; the next limit is tried if the map is still too large."""

CUT = "…"
"""Key of the entry that says how many others were left out, and the value of what lies too deep."""

INTEGERS = range(-(1 << 63), 1 << 64)
"""What msgpack can carry."""


def fit(values: Mapping[str, Any], limit: int = MAX_MAP) -> dict[str, Any]:
    """Return a copy of `values` that the wire can carry and whose msgpack form has at most about `limit` bytes.

    Long texts are shortened, and entries left out only if that is not enough. What the wire does not know becomes its text.
    """
    found: dict[str, Any] = {}
    for text_limit in TEXT_LIMITS:
        found = {_key(key): _copy(value, text_limit, MAX_DEPTH) for key, value in values.items()}
        if _size(found) <= limit:
            return found
    kept, used = dict[str, Any](), 100
    for key, value in found.items():
        used += _size(key) + _size(value)
        if used > limit:
            kept[CUT] = f"{len(found) - len(kept)} more entries"
            break
        kept[key] = value
    return kept


def _copy(value: Any, text_limit: int, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or (kind is int and value in INTEGERS):  # most are: the checks below take their time
        return value
    if kind is str and len(value) <= text_limit and value.isascii():
        return value
    if isinstance(value, str):
        return encodable(shorten(value, text_limit))
    if isinstance(value, numbers.Integral):
        return int(value) if int(value) in INTEGERS else shorten(hex(int(value)), text_limit)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, bytes):
        return value if len(value) <= text_limit else encodable(shorten(value.hex(), text_limit))
    if depth == 0 and isinstance(value, Mapping | list | tuple):
        return CUT
    if isinstance(value, Mapping):
        return {_key(key): _copy(item, text_limit, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item, text_limit, depth - 1) for item in value]
    return encodable(shorten(_text(value), text_limit))


def _key(key: object) -> str:
    if type(key) is str and len(key) <= MAX_KEY and key.isascii():
        return key
    return encodable(shorten(_text(key), MAX_KEY))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a bug in an object must not keep a message from being sent
        return f"{type(value).__name__} without a text: {type(error).__name__}"


def _size(value: Any) -> int:
    """Return how many bytes msgpack needs for a value at most."""
    if type(value) is int:
        return 1 if 0 <= value < 128 else 5 if 0 <= value < 1 << 32 else 9
    if isinstance(value, str):
        return 5 + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, bytes):
        return 5 + len(value)
    if isinstance(value, dict):
        return 5 + sum(_size(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return 5 + sum(map(_size, value))
    return 9
