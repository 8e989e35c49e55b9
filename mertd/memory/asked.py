"""What `similar` is asked about: a moment of the memory, or numbers from elsewhere."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.errors import StoreError, UsageError
from mertd.memory.memory import Memory
from mertd.memory.queries import Selection
from mertd.wire import Embedding

LOOK_AROUND_NS = 3_600_000_000_000
"""Nanoseconds around a time in which the nearest window is looked for."""


@dataclass(frozen=True)
class Asked:
    """A vector, (layers * size,), of a space (empty: not known). `embedding`: the window that it is of, if it is remembered."""

    vector: NDArray[np.float32]
    space: str
    embedding: Embedding | None = None


def newest(memory: Memory, streams: tuple[str, ...]) -> Asked:
    """Return the vector that was stored last. Raises `StoreError` if there is none."""
    found = memory.last("embedding", streams, 1)
    if not found or not isinstance(found[0], Embedding):
        raise StoreError(f"no embeddings of these streams in {memory.folder}")
    return of_window(found[0])


def at(memory: Memory, when_ns: int, streams: tuple[str, ...]) -> Asked:
    """Return the vector of the window whose middle is nearest to a time. Raises `StoreError` if there is none near."""
    selection = Selection(when_ns - LOOK_AROUND_NS, when_ns + LOOK_AROUND_NS, streams)
    best: Embedding | None = None
    for message in memory.messages(("embedding",), selection):
        assert isinstance(message, Embedding)
        if best is None or _distance(message, when_ns) < _distance(best, when_ns):
            best = message
    if best is None:
        raise StoreError(
            f"nothing is remembered within an hour of this time in {memory.folder}; `mertd memory info` shows what is"
        )
    return of_window(best)


def of_window(message: Embedding) -> Asked:
    """Return the vector of an embedding."""
    return Asked(message.vector.ravel(), message.model.space, message)


def from_text(text: str) -> Asked:
    """Return the vector in a text: a JSON list, an embedding as `mertd tail --json` prints it, or numbers with spaces between.

    Raises `UsageError`.
    """
    try:
        body = json.loads(text)
    except ValueError:
        body = text.replace(",", " ").split()
    space = ""
    if isinstance(body, dict):
        model = body.get("model")
        space = str(model.get("space", "")) if isinstance(model, dict) else ""
        vector = body.get("vector")
        body = vector.get("data") if isinstance(vector, dict) else None
    try:
        found = np.array(body, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise UsageError(
            "standard input holds no vector; expected numbers, a JSON list, or a line of `mertd tail --json`"
        ) from error
    if not len(found) or not math.isfinite(float(np.abs(found).max())):
        raise UsageError("standard input holds no vector, or one with numbers that are not finite")
    return Asked(found.astype(np.float32), space)


def _distance(message: Embedding, when_ns: int) -> int:
    return abs((message.time.start_ns + message.time.end_ns) // 2 - when_ns)
