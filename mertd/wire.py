"""Wire version 1: embeddings, events and status as two ZeroMQ frames, and back.

Frame 1 is the topic, frame 2 one msgpack map. Rules of this file: bytes in, values out; no socket, no clock. What it does not
know it refuses by name, except additional keys, which it ignores, so that version 1 can grow.

Times are Unix nanoseconds, indexes and counts are samples at `rate`. `seq` counts per (boot, stream) without holes, embeddings
and events each on their own: a hole at the receiver is a lost message.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

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
M = TypeVar("M")


def encode(message: Message) -> list[bytes]:
    """The two frames of a message. Raises `WireError` if it holds what the wire cannot carry (numpy scalars, for one)."""
    payload = {"schema": SCHEMA, "kind": message.kind, **_map(message)}
    try:
        return [message.topic, msgpack.packb(payload)]
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{message.kind} cannot be put on the wire: {error}") from error


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
    message = _build(_KINDS[kind], body, kind)
    if message.topic != topic:
        raise WireError(f"topic {topic!r} on a message for {message.topic!r}")
    return message


def as_json(message: Message) -> dict[str, Any]:
    """The same keys with values that JSON has: `boot` in hexadecimal, `vector.data` as nested lists."""
    body = {"schema": SCHEMA, "kind": message.kind, **_map(message)}
    body["boot"] = message.boot.hex()
    if isinstance(message, Embedding):
        body["vector"] = {**body["vector"], "data": message.vector.tolist()}
    return body


def _map(value: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in _hints(type(value)):  # type: ignore[arg-type]
        item = getattr(value, name)
        if isinstance(item, np.ndarray):
            data = np.ascontiguousarray(item, "<f4")
            item = {"dtype": "<f4", "shape": list(data.shape), "data": data.tobytes()}
        elif dataclasses.is_dataclass(item):
            item = _map(item)
        out[name] = item
    return out


def _build(cls: type[M], body: object, where: str) -> M:
    if not isinstance(body, dict):
        raise WireError(f"{where} is {type(body).__name__}, wanted a map")
    values = {}
    for name, wanted in _hints(cls).items():  # type: ignore[arg-type]
        if name not in body:
            raise WireError(f"{where} has no {name!r}")
        values[name] = _value(wanted, body[name], f"{where}.{name}")
    return cls(**values)


def _value(wanted: Any, value: Any, where: str) -> Any:
    """`value` as the type that a field wants. One small checker for all messages, driven by their own annotations."""
    origin = typing.get_origin(wanted)
    if origin is Literal:
        return value  # `kind`, by which the class was chosen
    if dataclasses.is_dataclass(wanted):
        return _build(wanted, value, where)  # type: ignore[arg-type]
    if origin is np.ndarray:
        return _vector(value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise WireError(f"{where} is {type(value).__name__}, wanted a list")
        return tuple(_value(typing.get_args(wanted)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        return _facts(value, where)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise WireError(f"{where} is {type(value).__name__}, wanted {wanted.__name__}")
    if wanted is float and not math.isfinite(value):
        raise WireError(f"{where} is {value}")
    return value


def _facts(value: object, where: str) -> object:
    """A map without a schema of its own, as it is: text keys, and in it what JSON has, too."""
    if not isinstance(value, dict):
        raise WireError(f"{where} is {type(value).__name__}, wanted a map")
    inner = list(value.items())
    while inner:
        name, item = inner.pop()
        if not isinstance(name, str):
            raise WireError(f"{where} has the key {name!r}, wanted text")
        if isinstance(item, float) and not math.isfinite(item):
            raise WireError(f"{where}.{name} is {item}")
        if isinstance(item, dict):
            inner += item.items()
        elif isinstance(item, list):
            inner += [(name, entry) for entry in item]
    return value


def _vector(value: object, where: str) -> NDArray[np.float32]:
    match value:
        case {"dtype": "<f4", "shape": [int() as layers, int() as size], "data": bytes() as data}:
            if bool in (type(layers), type(size)) or layers < 1 or size < 1 or layers * size * 4 != len(data):
                raise WireError(f"{where}: shape ({layers}, {size}) does not fit {len(data)} bytes")
            return np.frombuffer(data, "<f4").reshape(layers, size)
    raise WireError(f"{where} is not a little-endian float32 matrix")


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    """Fields of a message class and their types, without `kind`."""
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if f.name != "kind"]
    return types.MappingProxyType({name: hints[name] for name in names})
