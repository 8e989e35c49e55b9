"""Messages to the two frames of wire version 1, and back.

Frame 1 is the topic, frame 2 one msgpack map. Rules of this file: bytes in, values out; no socket, no clock. What is unknown is
refused by name, except additional keys, which are ignored, so that version 1 can grow. Whatever `encode` accepts, `decode`
accepts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgpack

from mertd.errors import WireError
from mertd.text import shorten
from mertd.wire.fields import Fields, check_map
from mertd.wire.kinds import Embedding, Event, Message, Status

SCHEMA = 1
"""Version of the wire."""

MAX_BYTES = 1 << 20
"""Bytes of the largest payload that is sent or accepted: thirteen layers are 40 kB."""

_KINDS: dict[str, type[Message]] = {"embedding": Embedding, "event": Event, "status": Status}
"""Message classes by the `kind` in their maps."""


def encode(message: Message) -> list[bytes]:
    """Return the two frames of a message. Raises `WireError` for what the wire cannot carry or `decode` would refuse."""
    fields = _fields(message.kind)
    try:
        payload = msgpack.packb({"schema": SCHEMA, "kind": message.kind, **fields.take(message)})
        for name in fields.free:
            check_map(getattr(message, name), f"{message.kind}.{name}")
        if len(payload) > MAX_BYTES:
            raise WireError(f"payload of {len(payload)} bytes; at most {MAX_BYTES} are sent")
    except (TypeError, ValueError, OverflowError, WireError) as error:
        raise WireError(f"{message.kind} cannot be put on the wire: {error}") from error
    return [message.topic, payload]


def decode(frames: list[bytes]) -> Message:
    """Return the message in two frames. Raises `WireError` for anything that `encode` could not have made."""
    if len(frames) != 2:
        raise WireError(f"{len(frames)} frames; expected a topic and a payload")
    topic, payload = frames
    if len(payload) > MAX_BYTES:
        raise WireError(f"payload of {len(payload)} bytes; at most {MAX_BYTES} are read")
    try:
        body = msgpack.unpackb(payload, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"payload is not msgpack: {error}") from error
    if not isinstance(body, dict):
        raise WireError(f"payload is {type(body).__name__}; expected a map")
    schema = body.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise WireError(f"schema {_brief(schema)}; this reader knows {SCHEMA}")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise WireError(f"kind {_brief(kind)}; this reader knows {', '.join(_KINDS)}")
    fields = _fields(kind)
    message: Message = fields.make(body)
    for name in fields.free:
        check_map(body[name], f"{kind}.{name}")
    if message.topic != topic:
        raise WireError(f"topic {_brief(topic)} on a message for {_brief(message.topic)}")
    return message


def as_json(message: Message) -> dict[str, Any]:
    """Return the map of a message with values that JSON has: `boot` in hexadecimal, `vector.data` as nested lists."""
    body = {"schema": SCHEMA, "kind": message.kind, **_fields(message.kind).take(message)}
    body["boot"] = message.boot.hex()
    if isinstance(message, Embedding):
        body["vector"] = {**body["vector"], "data": message.vector.tolist()}
    return body


@cache
def _fields(kind: str) -> Fields:
    return Fields(_KINDS[kind], kind)


def _brief(value: object) -> str:
    return shorten(repr(value), 200)
