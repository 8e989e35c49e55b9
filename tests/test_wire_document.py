"""docs/protocol.md and docs/wire.schema.json say what the code does and what a daemon sends.

Run as a program to write the dump into the page anew: PYTHONPATH=tests python tests/test_wire_document.py
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings

from daemon_process import SHORT, TINY, Daemon, listening
from docs import pages
from docs.pages import table, words
from example_counts import examples
from mertd.vocabulary import (
    EpochReason,
    EventName,
    GapReason,
    HealthState,
    HoleCause,
    Phase,
    RequestName,
    SkipReason,
    StreamState,
    ZerosCause,
)
from mertd.wire import MAX_BYTES, Audio, Embedding, Event, Message, Model, Status, as_json, encode
from messages import embedding, event, status
from wire.drawn import embeddings, events

PATH = Path(__file__).parents[1] / "docs" / "protocol.md"
PAGE = PATH.read_text(encoding="utf-8")
SCHEMA = json.loads(PATH.with_name("wire.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLE = embedding(
    7,
    audio=Audio(-20.5, -3.25, 0, 0, 17),
    model=Model("MERT-v1-95M", "0123456789abcdef", "ab" * 32, True, (6,), "mean", "onnx", "float32"),
    vector=np.array([[1.0, -2.0]], np.float32),
)


def section(name: str) -> str:
    """The text under a heading of the page, up to the next one."""
    return pages.section(PAGE, name)


def fields(cls: Any) -> list[str]:
    """Every field of a message, with those of its maps as `map.key`."""
    hints, found = typing.get_type_hints(cls), ["schema", "kind"]
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            found += [f"{field.name}.{inner.name}" for inner in dataclasses.fields(hints[field.name])]
        elif field.name == "vector":
            found += ["vector.dtype", "vector.shape", "vector.data"]
        elif field.name != "kind":
            found.append(field.name)
    return found


def dump(payload: bytes) -> str:
    lines = []
    for at in range(0, len(payload), 16):
        part = payload[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:04x}  {part.hex(' '):47s}  {shown}")
    return "\n".join(lines)


@pytest.mark.parametrize(("name", "cls"), [("embedding", Embedding), ("event", Event), ("status", Status)])
def test_every_field_is_described(name: str, cls: Any) -> None:
    named = [word for row in table(section(name), "field") for word in words(row[0])]
    assert named == fields(cls)


def test_every_event_is_described() -> None:
    described = [words(row[0])[0] for row in table(section("event"), "event")]
    assert described == [*EventName]


def test_every_word_in_the_detail_of_events_is_described() -> None:
    where, described = "", dict[str, list[str]]()
    for row in table(section("event"), "where"):
        where = row[0] or where
        described.setdefault(where, []).extend(words(row[1]))
    assert described == {
        "`reason` of `epoch`": [*EpochReason],
        "`reason` of `skipped`": [*SkipReason],
        "`reason` of `overflow`": [*GapReason],
        "`cause` of `zeros`": [*ZerosCause],
        "`state` of `health`": [*HealthState],
        "`reason` of `hole`": [*HoleCause],
    }


def test_every_word_in_the_status_is_described() -> None:
    assert words(next(row[2] for row in table(section("status"), "field") if row[0] == "`phase`")) == [*Phase]
    assert words(next(row[1] for row in table(section("status"), "key") if row[0] == "`state`")) == [*StreamState]


def test_every_request_is_described() -> None:
    assert [words(row[0])[0] for row in table(section("Control"), "request")] == [*RequestName]


def test_the_schema_knows_the_vocabulary() -> None:
    """As examples: a client must accept words that it does not know."""
    parts = SCHEMA["$defs"]
    assert parts["event"]["properties"]["event"]["examples"] == [*EventName]
    assert parts["status"]["properties"]["phase"]["examples"] == [*Phase]
    assert parts["status"]["properties"]["streams"]["additionalProperties"]["properties"]["state"]["examples"] == [*StreamState]


def test_the_dump_is_a_message() -> None:
    _, payload = encode(EXAMPLE)
    assert dump(payload) in PAGE, "run this file as a program to write it anew"


def test_the_limits_are_those_of_the_code() -> None:
    assert MAX_BYTES == 1 << 20
    from mertd.stream.envelope import MAX_ID, MAX_REQUEST
    from mertd.stream.server.control_server import REQUESTS
    from mertd.stream.server.history import PAGE_BYTES, PAGE_MESSAGES

    assert (MAX_REQUEST, MAX_ID, PAGE_MESSAGES, PAGE_BYTES) == (4_096, 64, 256, 1 << 20)
    assert (REQUESTS.per_second, REQUESTS.burst) == (50, 100)
    page = " ".join(PAGE.split())
    for text in ("at most 1 MiB", "at most 4 kB", "at most 256 messages and 1 MiB", "at most 64 characters"):
        assert text in page
    assert "50 times a second, with a reserve of 100 requests" in page


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(embeddings | events)
@settings(max_examples=examples(100))
def test_whatever_can_be_sent_fits_the_schema(message: Message) -> None:
    VALIDATOR.validate(as_json(message))


@pytest.mark.parametrize("message", [embedding(), event(), status()])
def test_what_cannot_be_sent_does_not(message: Message) -> None:
    body = as_json(message)
    for key in body:
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate({name: value for name, value in body.items() if name != key})
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate({**body, key: object()})
    VALIDATOR.validate({**body, "new": 1})


@pytest.mark.slow
def test_what_a_daemon_sends_fits_the_schema() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords?seconds=3", "--source", "synth:silence?seconds=3") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: all(stream["state"] == "ended" and not stream["waiting"] for stream in s.streams.values()))
            daemon.until(lambda s: s.uptime_ns > 5e9)
            daemon.stop()
    assert {message.kind for message in heard} == {"embedding", "event", "status"}
    for message in heard:
        VALIDATOR.validate(as_json(message))
    assert {"started", "silent", "ended", "stopping"} <= {m.event for m in heard if isinstance(m, Event)}
    last = [message for message in heard if isinstance(message, Status)][-1]
    described = {key for row in table(section("status"), "key") for key in words(row[0])}
    assert all(described == {*stream} for stream in last.streams.values())
    assert {key for row in table(section("status"), "model's key") for key in words(row[0])} == {*last.model}
    rows = [(row[1], words(row[0])) for row in table(section("status"), "process's key")]
    for name, process in last.processes.items():
        kind = "supervisor" if name == "supervisor" else "children"
        assert {key for of, keys in rows if of in ("all", kind) for key in keys} == {*process}


if __name__ == "__main__":
    text = re.sub(r"```dump\n.*?```", lambda _: f"```dump\n{dump(encode(EXAMPLE)[1])}\n```", PAGE, flags=re.DOTALL)
    PATH.write_text(text, encoding="utf-8")
