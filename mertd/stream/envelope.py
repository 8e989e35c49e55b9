"""Requests and replies of the control socket as frames and msgpack.

Rules of this file: bytes in, values out; no socket.
"""

from __future__ import annotations

from typing import Any

import msgpack

from mertd.errors import WireError
from mertd.wire import SCHEMA

MAX_REQUEST = 4_096
"""Bytes of a request."""

MAX_ID = 64
"""Characters of a request's `id`."""

Identifier = int | str | None
"""What a client sends along to recognise the reply."""


def address_of(frames: list[bytes]) -> list[bytes]:
    """What must stand before a reply: the client's identity, and an empty frame if it asked with REQ."""
    client, *envelope = frames
    return [client, *envelope[:-1]] if len(envelope) == 2 and not envelope[0] else [client]


def parse_request(envelope: list[bytes]) -> tuple[dict[str, Any], Identifier]:
    """The request in the frames behind the client's identity, without `schema` and `id`, and its `id`.

    Raises `WireError` for anything else.
    """
    if not (len(envelope) == 1 or (len(envelope) == 2 and not envelope[0])):
        raise WireError(f"a request is one frame, not {len(envelope)}")
    try:
        body = msgpack.unpackb(envelope[-1], strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"request is not msgpack: {error}") from error
    if not isinstance(body, dict) or body.pop("schema", None) != SCHEMA:
        raise WireError(f"request is not a map with schema {SCHEMA}")
    identifier = body.pop("id", None)
    if identifier is None or type(identifier) is int or (isinstance(identifier, str) and len(identifier) <= MAX_ID):
        return body, identifier
    raise WireError(f"`id` must be a whole number or text of at most {MAX_ID} characters")


def pack_reply(body: dict[str, Any], identifier: Identifier) -> bytes:
    """A reply as it is sent."""
    known = {} if identifier is None else {"id": identifier}
    return msgpack.packb({"schema": SCHEMA, **body, **known})  # type: ignore[no-any-return]
