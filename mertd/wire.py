"""Wire version 1: embeddings, events and status as two ZeroMQ frames, and back.

Frame 1 is the topic, frame 2 one msgpack map. Rules of this file: bytes in, values out; no socket, no clock. What it does not
know it refuses by name, except additional keys, which it ignores, so that version 1 can grow.

Times are Unix nanoseconds, indexes and counts are samples at `rate`. `seq` counts per (boot, stream) without holes, embeddings
and events each on their own: a hole at the receiver is a lost message. `daemon` stays the same when a daemon is started again,
`boot` does not: two streams are the same one if `daemon` and `stream` are equal.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any, Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from mertd.errors import WireError

SCHEMA = 1
MAX_BYTES = 1 << 20
"""Largest payload accepted: thirteen layers are 40 kB."""


@dataclass(frozen=True)
class Span:
    """Which samples: [start, end) at `rate` Hz."""

    start: int
    end: int
    rate: int


@dataclass(frozen=True)
class Time:
    """When they were heard. `error_ns` bounds how far readings of the clock stray; `drift_ppm` is the source's drift."""

    start_ns: int
    end_ns: int
    error_ns: int
    drift_ppm: float


@dataclass(frozen=True)
class Audio:
    """What the window sounded like, before normalisation; counts are samples within the window."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: int
    missing: int  # lost on the way in and filled with zeros
    zeros: int  # exactly zero


@dataclass(frozen=True)
class Model:
    """What made the vector. Vectors may be compared only if their `space` is equal."""

    name: str
    space: str
    weights: str  # sha256 of the tensors, hexadecimal
    trained: bool  # false: seeded random weights, good for plumbing only
    layers: tuple[int, ...]
    pooling: str
    backend: str
    precision: str


@dataclass(frozen=True)
class Latency:
    """From the window's last sample committed to publication: `total` = `wait` for the model + `embed`, and hand-over."""

    wait: int
    embed: int
    total: int


@dataclass(frozen=True, eq=False)
class Embedding:
    """The hidden states of one window. `vector`: (layers, 768) float32."""

    boot: bytes
    daemon: str
    stream: str
    epoch: int
    seq: int
    window: Span
    time: Time
    audio: Audio
    model: Model
    vector: NDArray[np.float32]
    latency_ns: Latency
    skipped: int = 0  # windows lost since the last embedding of this stream
    replay: bool = False
    kind: Literal["embedding"] = "embedding"

    @property
    def topic(self) -> bytes:
        return f"embedding/{self.stream}/".encode()


@dataclass(frozen=True)
class Event:
    """Something happened at sample `index` of a stream's timeline; `detail` depends on `event`."""

    boot: bytes
    daemon: str
    stream: str
    epoch: int
    seq: int
    event: str
    index: int
    time_ns: int
    detail: Mapping[str, Any] = field(default_factory=dict)
    replay: bool = False
    kind: Literal["event"] = "event"

    @property
    def topic(self) -> bytes:
        return f"event/{self.stream}/".encode()


@dataclass(frozen=True)
class Status:
    """Heartbeat, once a second: counters of the daemon, of each stream and of each process."""

    boot: bytes
    daemon: str
    time_ns: int
    uptime_ns: int
    version: str
    phase: str  # starting, running, stopping
    model: Mapping[str, Any]
    streams: Mapping[str, Any]
    processes: Mapping[str, Any]
    published: int
    dropped: int  # messages at which some subscriber's queue ran full; it sees in `seq` how many it missed
    kind: Literal["status"] = "status"

    @property
    def topic(self) -> bytes:
        return b"status/"


Message = Embedding | Event | Status
_KINDS: dict[str, type[Message]] = {"embedding": Embedding, "event": Event, "status": Status}
_NAMES: dict[type, str] = {dict: "a map", list: "a list"}


def encode(message: Message) -> list[bytes]:
    """The two frames of a message. Raises `WireError` if it holds what the wire cannot carry, or `decode` would refuse."""
    fields = _fields(message.kind)
    try:
        payload = msgpack.packb({"schema": SCHEMA, "kind": message.kind, **fields.take(message)})
        for name in fields.free:
            _check_facts(getattr(message, name), f"{message.kind}.{name}")
    except (TypeError, ValueError, OverflowError, WireError) as error:
        raise WireError(f"{message.kind} cannot be put on the wire: {error}") from error
    return [message.topic, payload]


def decode(frames: list[bytes]) -> Message:
    """The message in two frames. Raises `WireError` for anything that is not exactly what `encode` could have made."""
    if len(frames) != 2:
        raise WireError(f"{len(frames)} frames, wanted a topic and a payload")
    topic, payload = frames
    if len(payload) > MAX_BYTES:
        raise WireError(f"payload of {len(payload)} bytes, at most {MAX_BYTES} are read")
    try:
        body = msgpack.unpackb(payload, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"payload is not msgpack: {error}") from error
    if not isinstance(body, dict):
        raise WireError(f"payload is {type(body).__name__}, wanted a map")
    schema = body.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise WireError(f"schema {schema!r}, this reader knows {SCHEMA}")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise WireError(f"kind {kind!r}, this reader knows {', '.join(_KINDS)}")
    fields = _fields(kind)
    message: Message = fields.make(body)
    for name in fields.free:
        _check_facts(body[name], f"{kind}.{name}")
    if message.topic != topic:
        raise WireError(f"topic {topic!r} on a message for {message.topic!r}")
    return message


def as_json(message: Message) -> dict[str, Any]:
    """The same keys with values that JSON has: `boot` in hexadecimal, `vector.data` as nested lists."""
    body = {"schema": SCHEMA, "kind": message.kind, **_fields(message.kind).take(message)}
    body["boot"] = message.boot.hex()
    if isinstance(message, Embedding):
        body["vector"] = {**body["vector"], "data": message.vector.tolist()}
    return body


@dataclass(frozen=True)
class _Form:
    """How one field looks in a message and in its map, and how the one becomes the other (as it is, if nothing is given)."""

    inside: type
    outside: type
    out: Callable[[Any], Any] | None = None
    back: Callable[[Any], Any] | None = None


class _Fields:
    """The fields of one message class, without `kind`: out of a message into a map, and back, checked by their annotations.

    An embedding has 38 of them, and nearly always all types are right. So the types of a class are compared in one go, and
    field by field only to say, or forgive, what is odd.
    """

    def __init__(self, cls: Any, where: str) -> None:
        """`where`: what complaints call the class, as `embedding.time`."""
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
        """The map of a message. Raises `WireError` where `make` would, but for what the `free` maps hold."""
        body: dict[str, Any] = vars(message).copy()  # in the order of the fields, as `__init__` has set them
        if list(map(type, body.values())) != self._inside:
            for name, form in self._forms.items():
                value = body[name]
                fits = isinstance(value, form.inside) or (form.inside is float and isinstance(value, int))
                if not fits or (isinstance(value, bool) and form.inside is not bool):
                    raise WireError(f"{self._where}.{name} is {type(value).__name__}, wanted {form.inside.__name__}")
        for name, out in self._out:
            body[name] = out(body[name])
        return body

    def make(self, body: dict[str, Any]) -> Any:
        """The message of a map. Raises `WireError` if a field is missing or not what it should be."""
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
                    wanted = _NAMES.get(form.outside, form.outside.__name__)
                    raise WireError(f"{self._where}.{name} is {type(value).__name__}, wanted {wanted}")
        for i, back in self._back:
            values[i] = back(values[i])
        return self._class(*values)


@cache
def _fields(kind: str) -> _Fields:
    return _Fields(_KINDS[kind], kind)


def _form(wanted: Any, where: str) -> _Form:
    origin = typing.get_origin(wanted)
    if dataclasses.is_dataclass(wanted):
        inner = _Fields(wanted, where)
        return _Form(wanted, dict, inner.take, inner.make)  # type: ignore[arg-type]
    if wanted == NDArray[np.float32]:  # whose origin depends on numpy's version
        return _Form(np.ndarray, dict, lambda value: _vector_out(value, where), lambda value: _vector_back(value, where))
    if origin is tuple:
        item = typing.get_args(wanted)[0]
        return _Form(tuple, list, lambda value: list(_alike(value, item, where)), lambda value: _alike(value, item, where))
    if origin is Mapping:
        return _Form(dict, dict)
    if wanted is float:
        return _Form(float, float, lambda value: _finite(value, where), lambda value: _finite(value, where))
    return _Form(wanted, wanted)


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise WireError(f"{where} is {value}")
    return value


def _alike(values: Any, wanted: type, where: str) -> tuple[Any, ...]:
    for i, value in enumerate(values):
        if type(value) is not wanted:
            raise WireError(f"{where}[{i}] is {type(value).__name__}, wanted {wanted.__name__}")
    return tuple(values)


def _vector_out(value: NDArray[Any], where: str) -> dict[str, Any]:
    if value.ndim != 2 or not value.size:
        raise WireError(f"{where} has the shape {value.shape}, wanted (layers, size)")
    return {"dtype": "<f4", "shape": list(value.shape), "data": value.astype("<f4", copy=False).tobytes()}


def _vector_back(value: dict[Any, Any], where: str) -> NDArray[np.float32]:
    match value:
        case {"dtype": "<f4", "shape": [int() as layers, int() as size], "data": bytes() as data}:
            if bool in (type(layers), type(size)) or layers < 1 or size < 1 or layers * size * 4 != len(data):
                raise WireError(f"{where}: shape ({layers}, {size}) does not fit {len(data)} bytes")
            return np.frombuffer(data, "<f4").reshape(layers, size)
    raise WireError(f"{where} is not a little-endian float32 matrix")


def _check_facts(value: Mapping[str, Any], where: str) -> None:
    """A map without a schema of its own: text keys, and in it what JSON has, too."""
    inner: list[tuple[Any, Any]] = list(value.items())
    while inner:
        name, item = inner.pop()
        if not isinstance(name, str):
            raise WireError(f"{where} has the key {name!r}, wanted text")
        if isinstance(item, float) and not math.isfinite(item):
            raise WireError(f"{where}.{name} is {item}")
        if isinstance(item, dict):
            inner += item.items()
        elif isinstance(item, list | tuple):
            inner += [(name, entry) for entry in item]
