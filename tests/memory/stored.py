"""Messages for tests of the memory, and comparison with what it gives back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from mertd.wire import Embedding, Event
from messages import embedding

BOOTS = [bytes([number]) * 16 for number in range(1, 5)]


def vector(seed: int, size: int = 8, layers: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((layers, size)).astype(np.float32)


def small(seq: int, stream: str = "room", **changes: Any) -> Embedding:
    """An embedding whose vector takes little."""
    return embedding(seq, stream, **{"vector": vector(seq), **changes})


def assert_same(found: Embedding | Event, sent: Embedding | Event) -> None:
    """All fields are equal, but for `replay`, which is true, and vectors, which are close as float16 is."""
    assert type(found) is type(sent)
    assert found.replay
    for field in fields(sent):
        one, other = getattr(found, field.name), getattr(sent, field.name)
        if field.name == "vector":
            assert one.shape == other.shape
            assert one.dtype == np.float32
            peak = np.abs(other.astype(np.float64)).max(initial=0.0)
            error = np.abs(one.astype(np.float64) - other.astype(np.float64))
            # Rounding, and below it what the smallest float16 and the smallest float32 leave.
            assert (error <= np.abs(other) * 2.0**-11 + peak * 2.0**-39 + 2.0**-149).all()
        elif field.name != "replay":
            assert one == other, field.name
            if is_dataclass(other):
                assert vars(one) == vars(other)


def key(message: Embedding | Event) -> tuple[bytes, str, str, str, int]:
    return (message.boot, message.daemon, message.kind, message.stream, message.seq)
