"""The short way to the bytes of an embedding: the same bytes, and the same refusals, whatever came before."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.errors import WireError
from mertd.wire import MAX_BYTES, Embedding, Encoder, Message, encode
from messages import MODEL, embedding
from wire.drawn import anything, embeddings, messages

PLACES = [
    (part, field.name)
    for part in ("", "window", "time", "audio", "model", "latency_ns")
    for field in dataclasses.fields(getattr(embedding(), part) if part else embedding())
    if field.name != "kind"
]
"""Every field of an embedding: the part that it is in, and its name."""


def frames_or_complaint(encoder: Encoder | None, message: Message) -> list[bytes] | str:
    """The frames of a message, or the error; None stands for `encode`, the long way."""
    try:
        return encoder.encode(message) if encoder else encode(message)
    except WireError as error:
        return str(error)


def replaced(message: Embedding, place: tuple[str, str], value: Any) -> Embedding:
    part, name = place
    if not part:
        return dataclasses.replace(message, **{name: value})
    return dataclasses.replace(message, **{part: dataclasses.replace(getattr(message, part), **{name: value})})


@given(st.lists(messages, max_size=4))
@settings(max_examples=examples(200))
def test_bytes_do_not_depend_on_the_way_or_on_what_came_before(found: list[Message]) -> None:
    encoder = Encoder()
    for message in found + found:
        assert encoder.encode(message) == encode(message)


@given(embeddings, st.lists(st.tuples(st.sampled_from(PLACES), anything | st.floats(width=32).map(float)), max_size=3))
@settings(max_examples=examples(400))
def test_refusals_are_the_same_and_leave_nothing_behind(message: Embedding, damage: list[tuple[tuple[str, str], Any]]) -> None:
    """A msgpack packer that fails halfway has left its first half in the next result before (msgpack-python #210, #258)."""
    encoder = Encoder()
    for place, value in damage:
        damaged = replaced(message, place, value)
        assert frames_or_complaint(encoder, damaged) == frames_or_complaint(None, damaged)
        assert encoder.encode(message) == encode(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": True},
        {"seq": 1 << 64},
        {"epoch": -(1 << 63) - 1},
        {"stream": "\ud800"},
        {"model": dataclasses.replace(MODEL, layers=(6, True))},
        {"model": dataclasses.replace(MODEL, name=None)},  # type: ignore[arg-type]
        {"vector": np.full((1, 3), np.inf, np.float32)},
        {"vector": np.array([[1, np.nan]], np.float32)},
        {"vector": np.zeros((1, 1 << 19), np.float32)},
        {"stream": "x" * MAX_BYTES},
    ],
    ids=str,
)
def test_what_the_wire_cannot_carry_is_refused_in_the_same_words(changes: dict[str, Any]) -> None:
    encoder = Encoder()
    bad, good = embedding(**changes), embedding()
    for message in (bad, good, bad):
        assert frames_or_complaint(encoder, message) == frames_or_complaint(None, message)
    assert isinstance(frames_or_complaint(encoder, bad), str)


@pytest.mark.parametrize(
    "vector",
    [
        np.full((2, 3), 3e38, np.float32),  # the sum of squares is infinite, the numbers are not
        np.full((2, 3), 1e-45, np.float32),
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(6, dtype=np.float64).reshape(2, 3),
        np.zeros((1, 100_000), np.float32),
    ],
    ids=lambda vector: f"{vector.dtype.str}, {vector.shape}",
)
def test_any_vector_that_is_in_order_becomes_the_same_bytes(vector: Any) -> None:
    encoder = Encoder()
    for values in (vector, vector[:1], vector):
        assert encoder.encode(embedding(vector=values)) == encode(embedding(vector=values))


def test_the_sum_of_levels_may_be_infinite() -> None:
    message = replaced(replaced(embedding(), ("audio", "rms_dbfs"), 1.7e308), ("audio", "peak_dbfs"), 1.7e308)
    assert Encoder().encode(message) == encode(message)


def test_an_embedding_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the other tests would compare one way with itself."""
    encoder = Encoder()
    expected = encode(embedding())
    monkeypatch.setattr("mertd.wire.encoder.encode", None)
    assert encoder.encode(embedding()) == expected
