"""Bytes of wire version 1: round trips, exact payloads, and refusal of everything else."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgpack_reader
from example_counts import examples
from mertd import wire
from mertd.errors import WireError
from mertd.windows import Late
from mertd.wire import (
    MAX_BYTES,
    Audio,
    Embedding,
    Message,
    Status,
    Time,
    as_json,
    decode,
    encode,
)
from messages import MODEL, embedding, event, status
from wire.drawn import anything, embeddings, messages, plain, words

EXAMPLES = [embedding(3), event(3), status()]


def facts(message: Message) -> dict[str, Any]:
    """All fields, comparable."""
    values = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    if isinstance(message, Embedding):
        values["vector"] = (message.vector.dtype, message.vector.shape, message.vector.tobytes())
    return values


@given(messages)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    again = decode(encode(message))
    assert type(again) is type(message)
    assert facts(again) == facts(message)


@given(messages)
def test_another_reader_reads_the_same(message: Message) -> None:
    topic, payload = encode(message)
    body = msgpack_reader.read(payload)
    assert body.pop("schema") == 1
    assert body.pop("kind") == message.kind
    assert set(body) == {f.name for f in dataclasses.fields(message)} - {"kind"}
    for name, value in body.items():
        own = getattr(message, name)
        if name == "vector":
            assert value == {"dtype": "<f4", "shape": list(own.shape), "data": own.tobytes()}
        elif dataclasses.is_dataclass(own):
            assert {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()} == vars(own)
        else:
            assert value == own
    stream = "" if isinstance(message, Status) else f"{message.stream}/"
    assert topic == f"{message.kind}/{stream}".encode()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: m.kind)
def test_keys_of_a_later_version_are_ignored(message: Message) -> None:
    topic, payload = encode(message)
    body = widened(msgpack_reader.read(payload))
    assert facts(decode([topic, msgpack.packb(body)])) == facts(message)


def widened(body: dict[str, Any]) -> dict[str, Any]:
    """With a key more in every map that has fixed keys."""
    free = ("detail", "streams", "processes", *(() if "vector" in body else ("model",)))
    deeper = {k: widened(v) if isinstance(v, dict) and k not in free else v for k, v in body.items()}
    return {**deeper, "of a later version": [1, {}]}


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, 1.0, [1]])
def test_another_schema_is_refused_by_name(schema: object) -> None:
    topic, payload = encode(event())
    body = {**msgpack_reader.read(payload), "schema": schema}
    with pytest.raises(WireError, match=r"schema .*this reader knows 1") as refusal:
        decode([topic, msgpack.packb(body)])
    assert repr(schema) in str(refusal.value)


@pytest.mark.parametrize("kind", ["vector", "", None, 1, ["event"], {}])
def test_another_kind_is_refused_by_name(kind: object) -> None:
    topic, payload = encode(event())
    body = {**msgpack_reader.read(payload), "kind": kind}
    with pytest.raises(WireError, match="this reader knows embedding, event, status") as refusal:
        decode([topic, msgpack.packb(body)])
    assert repr(kind) in str(refusal.value)


@given(st.lists(st.binary(max_size=64), max_size=4) | st.binary().map(lambda data: [b"event/room/", data]))
@settings(max_examples=examples(400))
def test_arbitrary_bytes_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


@given(message=st.sampled_from(EXAMPLES), edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=3)), min_size=1))
@settings(max_examples=examples(400))
def test_damaged_bytes_are_refused_or_make_a_message(message: Message, edits: list[tuple[int, bytes]]) -> None:
    topic, payload = encode(message)
    damaged = bytearray(payload)
    for at, replacement in edits:
        at %= len(damaged) + 1
        damaged[at : at + len(replacement) or at + 1] = replacement
    try:
        found = decode([topic, bytes(damaged)])
    except WireError:
        return
    assert facts(decode(encode(found))) == facts(found)


@given(message=st.sampled_from(EXAMPLES), data=st.data())
@settings(max_examples=examples(400))
def test_any_value_anywhere_is_refused_or_makes_a_message(message: Message, data: st.DataObject) -> None:
    topic, payload = encode(message)
    body = msgpack_reader.read(payload)
    place: Any = body
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, Mapping) else range(len(place))))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    if isinstance(place, dict) and data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(plain | st.floats() | st.just(2**64 - 1))
    try:
        found = decode([topic, msgpack.packb(body)])
    except WireError:
        return
    assert facts(decode(encode(found))) == facts(found)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: m.kind)
def test_every_field_must_be_there_and_of_its_type(message: Message) -> None:
    topic, payload = encode(message)
    for name in [f.name for f in dataclasses.fields(message) if f.name not in ("kind", "stream")]:
        for damage in ("absent", "wrong"):
            body = msgpack_reader.read(payload)
            if damage == "absent":
                del body[name]
            else:
                body[name] = None
            with pytest.raises(WireError, match=f"{message.kind}.* {name!r}|{message.kind}.{name} is"):
                decode([topic, msgpack.packb(body)])


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 768]},
        {"shape": [1, 767]},
        {"shape": [768]},
        {"shape": [1, 1, 768]},
        {"shape": [0, 0], "data": b""},
        {"shape": [-1, -768]},
        {"shape": [1.0, 768]},
        {"shape": [True, 768]},
        {"shape": [1 << 62, 4]},
        {"shape": None},
        {"data": "0" * 3072},
        {"data": b""},
        {"data": bytes(3071)},
        {"dtype": ">f4"},
        {"dtype": "<f8"},
        {"dtype": None},
    ],
    ids=str,
)
def test_a_vector_that_lies_about_its_shape_is_refused(change: dict[str, Any]) -> None:
    topic, payload = encode(embedding())
    body = msgpack_reader.read(payload)
    body["vector"] |= change
    with pytest.raises(WireError, match=r"embedding\.vector"):
        decode([topic, msgpack.packb(body)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("part", "name"), [("audio", "rms_dbfs"), ("audio", "peak_dbfs"), ("time", "drift_ppm")])
def test_numbers_that_are_none_are_refused(value: float, part: str, name: str) -> None:
    topic, payload = encode(embedding())
    body = msgpack_reader.read(payload)
    body[part][name] = value
    with pytest.raises(WireError, match=rf"{part}\.{name} is -?(nan|inf)"):
        decode([topic, msgpack.packb(body)])


def test_whole_numbers_may_stand_for_floats_but_not_floats_for_whole_numbers() -> None:
    """Some languages have one kind of number, and write 0 for 0.0."""
    topic, payload = encode(embedding())
    body = msgpack_reader.read(payload)
    body["time"]["drift_ppm"] = -3
    found = decode([topic, msgpack.packb(body)])
    assert isinstance(found, Embedding)
    assert (found.time.drift_ppm, type(found.time.drift_ppm)) == (-3.0, float)
    body["epoch"] = 1.0
    with pytest.raises(WireError, match=r"embedding\.epoch is float; expected int"):
        decode([topic, msgpack.packb(body)])


@pytest.mark.parametrize("topic", [b"", b"embedding/room", b"embedding/other/", b"event/room/", b"status/"])
def test_a_topic_that_lies_is_refused(topic: bytes) -> None:
    with pytest.raises(WireError, match="topic"):
        decode([topic, encode(embedding())[1]])


def test_oversize_is_refused_unread() -> None:
    with pytest.raises(WireError, match=f"{MAX_BYTES + 1} bytes"):
        decode([b"event/room/", b"\x80" + bytes(MAX_BYTES)])
    deep = b"\x91" * 100_000 + b"\x90"
    with pytest.raises(WireError, match="not msgpack"):
        decode([b"event/room/", deep])


@pytest.mark.parametrize("detail", [{"x": np.float32(1)}, {"x": np.int64(1)}, {"x": object()}, {"x": 1 << 64}])
def test_what_the_wire_cannot_carry_is_not_sent(detail: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="event cannot be put on the wire"):
        encode(event(detail=detail))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), np.float64("nan")])
@pytest.mark.parametrize(
    "place",
    [
        lambda v: embedding(audio=Audio(v, 0.0, 0, 0, 0)),
        lambda v: embedding(time=Time(0, 0, 0, v)),
        lambda v: event(detail={"a": {"b": [1, {"c": v}]}}),
        lambda v: event(detail={"a": (v,)}),
        lambda v: status(streams={"room": {"level": v}}),
    ],
)
def test_numbers_that_are_none_are_not_sent(place: Callable[[float], Message], value: float) -> None:
    with pytest.raises(WireError, match=r"cannot be put on the wire: .* is -?(nan|inf)"):
        encode(place(value))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"epoch": 1.0}, "embedding.epoch is float; expected int"),
        ({"epoch": True}, "embedding.epoch is bool; expected int"),
        ({"replay": 1}, "embedding.replay is int; expected bool"),
        ({"stream": b"room"}, "embedding.stream is bytes; expected str"),
        ({"window": None}, "embedding.window is NoneType; expected Span"),
        ({"time": Time(0, 0, 0, None)}, "embedding.time.drift_ppm is NoneType; expected float"),  # type: ignore[arg-type]
        ({"time": Time(0, 0, 0, False)}, "embedding.time.drift_ppm is bool; expected float"),
        ({"model": dataclasses.replace(MODEL, layers=(6, 7.0))}, "embedding.model.layers[1] is float; expected int"),
        ({"model": dataclasses.replace(MODEL, layers=[6])}, "embedding.model.layers is list; expected tuple"),
        ({"vector": np.zeros(768, np.float32)}, "embedding.vector has the shape (768,); expected (layers, size)"),
        ({"vector": np.zeros((0, 768), np.float32)}, "embedding.vector has the shape (0, 768); expected (layers, size)"),
        ({"vector": [[1.0]]}, "embedding.vector is list; expected ndarray"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_reader_would_refuse_is_not_sent(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WireError, match=f"cannot be put on the wire: {re.escape(complaint)}$"):
        encode(embedding(**changes))


@pytest.mark.parametrize("detail", [{1: 2}, {"a": {None: 1}}, {"a": [{b"b": 1}]}])
def test_keys_that_are_no_text_are_not_sent(detail: dict[Any, Any]) -> None:
    with pytest.raises(WireError, match=r"cannot be put on the wire: event\.detail has the key"):
        encode(event(detail=detail))


@pytest.mark.parametrize(
    ("detail", "complaint"),
    [
        ({"a": [{"b": float("nan")}]}, r"event\.detail\.b is nan"),
        ({"a": [float("-inf")]}, r"event\.detail\.a is -inf"),
        ({"a": {b"b": 1}}, r"event\.detail has the key b'b'"),
    ],
)
def test_what_a_map_without_schema_may_not_hold_is_refused(detail: dict[Any, Any], complaint: str) -> None:
    topic, payload = encode(event())
    body = {**msgpack_reader.read(payload), "detail": detail}
    with pytest.raises(WireError, match=complaint):
        decode([topic, msgpack.packb(body)])


def test_a_map_that_holds_itself_is_not_sent() -> None:
    detail: dict[str, Any] = {}
    detail["again"] = detail
    with pytest.raises(WireError, match="cannot be put on the wire"):
        encode(event(detail=detail))


def test_kinds_of_numbers_and_text_are_sent_as_what_they_are() -> None:
    audio = Audio(np.float64(-1.5), -3, 0, 0, 0)
    found = decode(encode(embedding(audio=audio, stream=Late.QUEUE)))
    assert isinstance(found, Embedding)
    assert (found.audio.rms_dbfs, found.audio.peak_dbfs, found.stream) == (-1.5, -3.0, "queue")


def test_a_vector_of_any_layout_is_sent_as_little_endian_float32() -> None:
    values = np.arange(12, dtype=">f8").reshape(3, 4).T
    found = decode(encode(embedding(vector=values)))
    assert isinstance(found, Embedding)
    assert found.vector.dtype == np.dtype("<f4")
    assert np.array_equal(found.vector, values)


@given(embeddings)
def test_json_has_the_same_keys_and_numbers(message: Embedding) -> None:
    body = json.loads(json.dumps(as_json(message)))
    assert list(body) == list(msgpack_reader.read(encode(message)[1]))
    assert body["boot"] == message.boot.hex()
    assert np.array_equal(np.array(body["vector"]["data"], np.float32), message.vector)
    assert body["vector"]["shape"] == list(message.vector.shape)


def test_thirteen_layers_fit_many_times() -> None:
    assert len(encode(embedding(vector=np.zeros((13, 768), np.float32)))[1]) * 10 < wire.MAX_BYTES


@given(st.dictionaries(words, anything, max_size=4))
@settings(max_examples=examples(600))
def test_whatever_is_encoded_can_be_decoded(detail: dict[str, Any]) -> None:
    for message in (event(detail=detail), status(streams=detail, model=detail)):
        try:
            frames = encode(message)
        except WireError:
            continue
        assert encode(decode(frames)) == frames


@pytest.mark.parametrize(
    "message", [event(detail={"a": "x" * MAX_BYTES}), embedding(stream="x" * MAX_BYTES)], ids=lambda m: m.kind
)
def test_too_large_a_message_is_not_sent(message: Message) -> None:
    with pytest.raises(WireError, match=rf"cannot be put on the wire: payload of \d+ bytes; at most {MAX_BYTES} are sent"):
        encode(message)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_is_neither_sent_nor_read(value: float) -> None:
    vector = np.zeros((2, 3), np.float32)
    vector[1, 2] = value
    with pytest.raises(WireError, match=rf"cannot be put on the wire: embedding.vector\[1\]\[2\] is {value}"):
        encode(embedding(vector=vector))
    topic, payload = encode(embedding(vector=np.zeros((2, 3), np.float32)))
    body = msgpack_reader.read(payload)
    body["vector"]["data"] = vector.tobytes()
    with pytest.raises(WireError, match=rf"embedding.vector\[1\]\[2\] is {value}"):
        decode([topic, msgpack.packb(body)])
