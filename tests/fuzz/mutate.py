"""What is done to valid bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence

HEADS = [
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 2000,
    b"\xcb\x7f\xf8",
]
"""In msgpack: claims of 2^32 entries or bytes, deep nesting, a NaN."""


def mutate(data: bytes, chance: random.Random, heads: Sequence[bytes] = HEADS) -> bytes:
    """`data` with one to four bytes or stretches of it changed, removed, repeated or replaced by a greedy claim."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        to = min(len(out), at + chance.choice((1, 1, 2, 9)))
        match chance.randrange(5):
            case 0:
                out[at:to] = chance.randbytes(to - at)
            case 1:
                del out[at:to]
            case 2:
                out[at:at] = out[at:to]
            case 3:
                out[at:to] = chance.choice(heads)
            case 4:
                del out[at:]
    return bytes(out)
