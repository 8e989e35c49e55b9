"""Embeddings to bytes, one after another: the same bytes as `encode` in half the time.

Rules of this file: no socket, no clock. Only an embedding in which all is in order goes the short way: every type is exactly
the annotated one, and all numbers are finite. All others are left to `encode`, which says what the wire cannot carry.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any

import msgpack
import numpy as np

from mertd.errors import WireError
from mertd.wire.codec import MAX_BYTES, SCHEMA, encode
from mertd.wire.fields import Fields
from mertd.wire.kinds import Embedding, Message, Model

PARTS = ("window", "time", "audio", "latency_ns")
"""Fields of an embedding that are maps of plain numbers."""

FLOAT32 = np.dtype("<f4")
"""The dtype of vectors on the wire."""

MAP_15 = b"\x8f"
"""The head of a msgpack map with 15 entries: `schema`, `kind`, and the 13 fields of an embedding."""


class Encoder:
    """Encodes the messages of one daemon, in one thread.

    Embeddings of one daemon differ in their numbers only. What their models and the heads of their vectors become is kept, and
    the numbers are packed from where they are, without a map of them in between.
    """

    def __init__(self) -> None:
        self._leaves, self._types, self._floats = _leaves()
        self._pack: Callable[[Any], bytes] = msgpack.Packer().pack
        self._model: Model | None = None
        self._model_bytes = b""
        self._shape: tuple[int, ...] = ()
        self._vector_head = b""

    def encode(self, message: Message) -> list[bytes]:
        """Return the two frames that `mertd.wire.encode` returns. Raises the `WireError` that it raises."""
        if type(message) is Embedding:
            try:
                payload = self._payload(message)
            except (AttributeError, TypeError, ValueError, OverflowError, WireError):
                payload = None
            if payload is not None and len(payload) <= MAX_BYTES:
                return [message.topic, payload]
        return encode(message)

    def _payload(self, message: Embedding) -> bytes | None:
        """Return the payload of an embedding; None, or any of the errors above, if not all of it is in order."""
        values = self._leaves(message)
        if list(map(type, values)) != self._types or not math.isfinite(sum(self._floats(values))):
            return None
        vector = message.vector
        # A sum of squares is the cheapest look at all numbers, and `vdot` the one that is silent if it overflows.
        if vector.ndim != 2 or not vector.size or vector.dtype is not FLOAT32 or not math.isfinite(np.vdot(vector, vector)):
            return None
        if message.model is not self._model:
            self._model_bytes = self._pack("model") + self._pack(_model_fields().take(message.model))
            self._model = message.model
        if vector.shape != self._shape:
            self._vector_head = _vector_head(vector.shape)
            self._shape = vector.shape
        first = {
            "schema": SCHEMA,
            "kind": "embedding",
            "boot": message.boot,
            "daemon": message.daemon,
            "stream": message.stream,
            "epoch": message.epoch,
            "seq": message.seq,
            "window": message.window.__dict__,  # in the order of the fields, in which `__init__` sets them
            "time": message.time.__dict__,
            "audio": message.audio.__dict__,
        }
        last = {"latency_ns": message.latency_ns.__dict__, "skipped": message.skipped, "replay": message.replay}
        pack = self._pack
        # Both maps are short: their heads have one byte.
        return b"".join((MAP_15, pack(first)[1:], self._model_bytes, self._vector_head, vector.tobytes(), pack(last)[1:]))


@cache
def _leaves() -> tuple[Callable[[Embedding], tuple[Any, ...]], list[type], Callable[[tuple[Any, ...]], tuple[float, ...]]]:
    """Return what gets all fields of an embedding and of its parts, their types, and what gets those that are floats."""
    hints = typing.get_type_hints(Embedding)
    types = {field.name: hints[field.name] for field in dataclasses.fields(Embedding)}
    types |= {"vector": np.ndarray, "kind": str}
    for part in PARTS:
        inner = typing.get_type_hints(hints[part])
        types |= {f"{part}.{field.name}": inner[field.name] for field in dataclasses.fields(hints[part])}
    floats = [at for at, kind in enumerate(types.values()) if kind is float]
    return attrgetter(*types), list(types.values()), itemgetter(*floats)


@cache
def _model_fields() -> Fields:
    return Fields(Model, "embedding.model")


def _vector_head(shape: tuple[int, ...]) -> bytes:
    """Return what stands in front of the numbers of a vector."""
    numbers = bytes(math.prod(shape) * FLOAT32.itemsize)
    packed: bytes = msgpack.packb({"dtype": FLOAT32.str, "shape": list(shape), "data": numbers})
    head: bytes = msgpack.packb("vector")
    return head + packed[: -len(numbers)]
