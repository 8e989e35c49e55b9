"""Bytes with a checksum behind them."""

from __future__ import annotations

import struct
import zlib

CHECKSUM = struct.Struct("<I")
"""CRC-32, little-endian."""


def with_checksum(content: bytes) -> bytes:
    """Return `content` and its checksum."""
    return content + CHECKSUM.pack(zlib.crc32(content))


def checked(data: bytes) -> bytes | None:
    """Return what `with_checksum` was given; None if the checksum is another one, or missing."""
    content, checksum = data[: -CHECKSUM.size], data[-CHECKSUM.size :]
    return content if checksum == CHECKSUM.pack(zlib.crc32(content)) else None
