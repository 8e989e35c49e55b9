"""One message class as a map of plain values, and back, checked field by field.

Rules of this file: no bytes and no socket. What does not fit the annotations of the class is refused by name.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from mertd.errors import WireError
from mertd.text import shorten

_TYPE_NAMES: dict[type, str] = {dict: "a map", list: "a list"}
"""What complaints call the types that a reader of the wire knows by other names."""


@dataclass(frozen=True)
class _Form:
    """The types of one field in a message and in its map, and what converts one to the other (None: nothing is to be done)."""

    inside: type
    outside: type
    out: Callable[[Any], Any] | None = None
    back: Callable[[Any], Any] | None = None


class Fields:
    """The fields of one message class, without `kind`: from a message to a map, and back, checked against their annotations.

    `free`: fields whose maps have no schema of their own; `check_map` is for them.

    An embedding has 38 fields, and nearly always all their types are right. So all types of a class are compared at once, and
    one by one only to find out which differs.
    """

    def __init__(self, cls: Any, where: str) -> None:
        """`where`: what errors call the class, as `embedding.time`."""
        hints = typing.get_type_hints(cls)
        fields = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
        self._class, self._where = cls, where
        self._inside = [str if name == "kind" else _form(hint, f"{where}.{name}").inside for name, hint in fields.items()]
        fields.pop("kind", None)
        self._forms = {name: _form(hint, f"{where}.{name}") for name, hint in fields.items()}
        self._outside, self._items = [form.outside for form in self._forms.values()], itemgetter(*fields)
        self._out = [(name, form.out) for name, form in self._forms.items() if form.out]
        self._back = [(i, form.back) for i, form in enumerate(self._forms.values()) if form.back]
        self.free = [name for name, hint in fields.items() if typing.get_origin(hint) is Mapping]

    def take(self, message: Any) -> dict[str, Any]:
        """Return the map of a message. Raises `WireError` where `make` would, except for the contents of `free` maps."""
        body: dict[str, Any] = vars(message).copy()  # in the order of the fields, in which `__init__` sets them
        if list(map(type, body.values())) != self._inside:
            for name, form in self._forms.items():
                value = body[name]
                fits = isinstance(value, form.inside) or (form.inside is float and isinstance(value, int))
                if not fits or (isinstance(value, bool) and form.inside is not bool):
                    raise WireError(f"{self._where}.{name} is {type(value).__name__}; expected {form.inside.__name__}")
        for name, out in self._out:
            body[name] = out(body[name])
        return body

    def make(self, body: dict[str, Any]) -> Any:
        """Return the message of a map. Raises `WireError` if a field is missing or of another type."""
        try:
            values = list(self._items(body))
        except KeyError as absent:
            raise WireError(f"{self._where} has no {absent.args[0]!r}") from None
        if list(map(type, values)) != self._outside:
            for i, (name, form) in enumerate(self._forms.items()):
                value = values[i]
                if form.outside is float and type(value) is int:
                    values[i] = float(value)
                elif type(value) is not form.outside:
                    expected = _TYPE_NAMES.get(form.outside, form.outside.__name__)
                    raise WireError(f"{self._where}.{name} is {type(value).__name__}; expected {expected}")
        for i, back in self._back:
            values[i] = back(values[i])
        return self._class(*values)


def _form(annotation: Any, where: str) -> _Form:
    origin = typing.get_origin(annotation)
    if dataclasses.is_dataclass(annotation):
        inner = Fields(annotation, where)
        return _Form(annotation, dict, inner.take, inner.make)  # type: ignore[arg-type]
    if annotation == NDArray[np.float32]:  # whose origin depends on numpy's version
        return _Form(np.ndarray, dict, lambda value: _vector_out(value, where), lambda value: _vector_back(value, where))
    if origin is tuple:
        item = typing.get_args(annotation)[0]
        return _Form(tuple, list, lambda value: list(_alike(value, item, where)), lambda value: _alike(value, item, where))
    if origin is Mapping:
        return _Form(dict, dict)
    if annotation is float:
        return _Form(float, float, lambda value: _finite(value, where), lambda value: _finite(value, where))
    return _Form(annotation, annotation)


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise WireError(f"{where} is {value}")
    return value


def _alike(values: Any, item: type, where: str) -> tuple[Any, ...]:
    for i, value in enumerate(values):
        if type(value) is not item:
            raise WireError(f"{where}[{i}] is {type(value).__name__}; expected {item.__name__}")
    return tuple(values)


def _vector_out(value: NDArray[Any], where: str) -> dict[str, Any]:
    if value.ndim != 2 or not value.size:
        raise WireError(f"{where} has the shape {value.shape}; expected (layers, size)")
    values = value.astype("<f4", copy=False)
    _all_finite(values, where)
    return {"dtype": "<f4", "shape": list(value.shape), "data": values.tobytes()}


def _vector_back(value: dict[Any, Any], where: str) -> NDArray[np.float32]:
    match value:
        case {"dtype": "<f4", "shape": [int() as layers, int() as size], "data": bytes() as data}:
            if bool in (type(layers), type(size)) or layers < 1 or size < 1 or layers * size * 4 != len(data):
                raise WireError(f"{where}: shape ({layers}, {size}) does not fit {len(data)} bytes")
            values = np.frombuffer(data, "<f4").reshape(layers, size).copy()  # writable, as users expect
            _all_finite(values, where)
            return values
    raise WireError(f"{where} is not a little-endian float32 matrix")


def _all_finite(values: NDArray[np.float32], where: str) -> None:
    if not np.isfinite(values).all():
        layer, at = np.argwhere(~np.isfinite(values))[0]
        raise WireError(f"{where}[{layer}][{at}] is {values[layer, at]}")


def check_map(value: Mapping[str, Any], where: str) -> None:
    """Raise `WireError` unless a map without a schema has text keys and holds only what JSON has too, and bytes."""
    inner: list[tuple[Any, Any]] = list(value.items())
    while inner:
        name, item = inner.pop()
        if not isinstance(name, str):
            raise WireError(f"{where} has the key {shorten(repr(name), 200)}; expected text")
        if type(item) is int or type(item) is str:  # most are
            continue
        if isinstance(item, float) and not math.isfinite(item):
            raise WireError(f"{where}.{shorten(name, 200)} is {item}")
        if isinstance(item, msgpack.ExtType | msgpack.Timestamp):
            raise WireError(f"{where}.{shorten(name, 200)} is a msgpack extension")
        if isinstance(item, dict):
            inner += item.items()
        elif isinstance(item, list | tuple):
            inner += [(name, entry) for entry in item]
