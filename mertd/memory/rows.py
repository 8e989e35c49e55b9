"""Messages as rows of the tables, and back. What comes back is what came, but for the vector, which is float16.

Rules of this file: pure. A row carries a checksum over all of it, for SQLite has none of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from mertd.errors import StoreError
from mertd.memory.half_floats import pack, pack_rows, unpack
from mertd.wire import Audio, Embedding, Event, Latency, Model, Span, Time

INTEGERS = range(-(1 << 63), 1 << 63)
"""What SQLite can hold."""

EMBEDDING_COLUMNS = (
    "source, seq, form, epoch, first, start_ns, stretch_ns, error_ns, drift_ppm, rms_dbfs, peak_dbfs, clipped, missing, zeros, "
    "wait_ns, embed_ns, total_ns, skipped, exponent, vector"
)
"""Columns of an embedding without the checksum, which comes last."""

EVENT_COLUMNS = "source, seq, epoch, event, first, time_ns, detail"
"""Columns of an event without the checksum, which comes last."""

FORM_COLUMNS = 'space, name, weights, trained, layers, pooling, backend, "precision", rate, length, rows, size'
"""What changes rarely from one embedding to the next."""


@dataclass(frozen=True)
class Source:
    """A stream in one run of its daemon."""

    boot: bytes
    daemon: str
    stream: str


Row = tuple[Any, ...]


def form_row(message: Embedding) -> Row:
    """Return the row of an embedding's form."""
    model, window = message.model, message.window
    layers = ",".join(map(str, model.layers))
    named = (model.space, model.name, model.weights, int(model.trained), layers, model.pooling, model.backend, model.precision)
    numbers = (window.rate, window.end - window.start, *message.vector.shape)
    _check_range(numbers)
    return (*named, *numbers)


def embedding_rows(messages: Sequence[Embedding], owners: Sequence[tuple[int, int]]) -> list[Row]:
    """Return the rows of embeddings, the checksum last. `owners`: source and form of each.

    Raises `StoreError` for numbers that SQLite cannot hold.
    """
    vectors = [message.vector for message in messages]
    if len({vector.shape for vector in vectors}) == 1:
        packed = pack_rows(np.concatenate(vectors).reshape(len(vectors), -1))
    else:
        packed = [pack(vector) for vector in vectors]
    return [_embedding_row(message, *owner, *vector) for message, owner, vector in zip(messages, owners, packed, strict=True)]


def _embedding_row(message: Embedding, source: int, form: int, exponent: int, vector: bytes) -> Row:
    window = message.window
    time = message.time
    audio = message.audio
    latency = message.latency_ns
    stretch_ns = time.end_ns - time.start_ns - nominal_ns(window.end - window.start, window.rate)
    # Adding 0.0 makes -0.0 the 0.0 that SQLite gives back.
    levels = (time.drift_ppm + 0.0, audio.rms_dbfs + 0.0, audio.peak_dbfs + 0.0)
    named = (source, message.seq, form, message.epoch, window.start, time.start_ns, stretch_ns, time.error_ns)
    counted = (audio.clipped, audio.missing, audio.zeros, latency.wait, latency.embed, latency.total, message.skipped, exponent)
    _check_range(named + counted)
    row = (*named, *levels, *counted, vector)
    return (*row, checksum(row))


def embedding(row: Sequence[Any], form: Sequence[Any], source: Source) -> Embedding:
    """Return the embedding of a row, marked as replayed."""
    seq = row[1]
    epoch, first, start_ns, stretch_ns, error_ns, drift_ppm = row[3:9]
    wait_ns, embed_ns, total_ns, skipped, exponent, vector = row[14:20]
    space, name, weights, trained, layers, pooling, backend, precision, rate, length, rows, size = form
    numbers = tuple(int(layer) for layer in layers.split(",") if layer)
    end_ns = start_ns + nominal_ns(length, rate) + stretch_ns
    return Embedding(
        boot=source.boot,
        daemon=source.daemon,
        stream=source.stream,
        epoch=epoch,
        seq=seq,
        window=Span(first, first + length, rate),
        time=Time(start_ns, end_ns, error_ns, drift_ppm),
        audio=Audio(*row[9:14]),
        model=Model(name, space, weights, bool(trained), numbers, pooling, backend, precision),
        vector=unpack(exponent, vector).reshape(rows, size),
        latency_ns=Latency(wait_ns, embed_ns, total_ns),
        skipped=skipped,
        replay=True,
    )


def event_row(message: Event, source: int) -> Row:
    """Return the row of an event, the checksum last. Raises `StoreError` for numbers that SQLite cannot hold."""
    detail: bytes = msgpack.packb(dict(message.detail))
    _check_range((source, message.seq, message.epoch, message.index, message.time_ns))
    row = (source, message.seq, message.epoch, message.event, message.index, message.time_ns, detail)
    return (*row, checksum(row))


def event(row: Sequence[Any], source: Source) -> Event:
    """Return the event of a row, marked as replayed."""
    _, seq, epoch, name, index, time_ns, detail = row[:7]
    found: dict[str, Any] = msgpack.unpackb(detail)
    return Event(source.boot, source.daemon, source.stream, epoch, seq, name, index, time_ns, found, replay=True)


def checksum(row: Sequence[Any]) -> int:
    """Return the CRC-32 of a row without its checksum, as a signed number, which takes fewer bytes."""
    found = zlib.crc32(repr(tuple(row[:-1])).encode(), zlib.crc32(row[-1]))
    return found - (1 << 32) if found >= 1 << 31 else found


def nominal_ns(length: int, rate: int) -> int:
    """Return how long so many samples last."""
    return length * 1_000_000_000 // rate if rate else 0


def _check_range(numbers: tuple[int, ...]) -> None:
    """Raise `StoreError` if SQLite cannot hold one of these numbers."""
    for number in (min(numbers), max(numbers)):
        if number not in INTEGERS:
            raise StoreError(f"the number {number} cannot be stored; a memory holds whole numbers of 64 bits")
