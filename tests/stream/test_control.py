"""Questions and answers over real sockets, with clients that cannot ask and servers that cannot answer."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from mertd.errors import EndpointError, WireError
from mertd.stream.control import MAX_REQUEST, _request, ask
from mertd.wire import Event, Status, encode
from messages import embedding, event, status
from stream.servers import PATIENCE_S, answering, control


def answer_status(request: dict[str, Any]) -> list[list[bytes]]:
    """As the daemon does: known questions are answered, others refused."""
    if request.get("request") == "status":
        return [encode(status(published=request.get("number", 0)))]
    if request.get("request") == "replay":
        return [encode(event(seq)) for seq in range(request["last"])]
    raise WireError(f"request {request.get('request')!r} is not known")


def test_a_question_is_answered_with_messages() -> None:
    with control(answer_status) as endpoint:
        (found,) = ask(endpoint, {"request": "status", "number": 7})
        assert isinstance(found, Status)
        assert found.published == 7
        events = ask(endpoint, {"request": "replay", "last": 300})
        assert [message.seq for message in events if isinstance(message, Event)] == list(range(300))
        assert ask(endpoint, {"request": "replay", "last": 0}) == []


def test_a_refusal_says_why() -> None:
    with control(answer_status) as endpoint, pytest.raises(EndpointError, match="refuses: request 'stop' is not known"):
        ask(endpoint, {"request": "stop"})


def raw(endpoint: str, *frames: bytes) -> Any:
    """The decoded answer to frames sent as they are; None if there is none."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send_multipart(frames)
        if not socket.poll(PATIENCE_S * 1000 if len(b"".join(frames)) <= MAX_REQUEST else 300):
            return None
        empty, answer = socket.recv_multipart()
        assert empty == b""
        return msgpack.unpackb(answer)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([b"", b"\xc1"], "request is not msgpack"),
        ([b"", b""], "request is not msgpack"),
        ([b"", b"\x91" * 2_000], "request is not msgpack"),
        ([b"", msgpack.packb([1])], "not a map with schema 1"),
        ([b"", msgpack.packb({"request": "status"})], "not a map with schema 1"),
        ([b"", msgpack.packb({"schema": 2, "request": "status"})], "not a map with schema 1"),
        ([b"", msgpack.packb({1: 2})], "request is not msgpack"),
        ([msgpack.packb({"schema": 1, "request": "status"})], "one frame from a REQ socket"),
        ([b"", b"", b""], "one frame from a REQ socket"),
        ([b"x", msgpack.packb({"schema": 1})], "one frame from a REQ socket"),
        ([b"", msgpack.packb({"schema": 1})], "request None is not known"),
    ],
)
def test_a_client_that_cannot_ask_is_told_and_harms_nobody(frames: list[bytes], says: str) -> None:
    with control(answer_status) as endpoint:
        answer = raw(endpoint, *frames)
        assert answer["ok"] is False
        assert says in answer["error"]
        assert ask(endpoint, {"request": "status"}), "the next one is served"


def test_a_question_as_long_as_a_book_is_not_read() -> None:
    with control(answer_status) as endpoint:
        assert raw(endpoint, b"", msgpack.packb({"schema": 1, "request": "status", "x": bytes(MAX_REQUEST)})) is None
        assert ask(endpoint, {"request": "status"})


@given(st.lists(st.binary(max_size=40), max_size=3))
@settings(max_examples=200)
def test_any_frames_are_a_request_or_refused(frames: list[bytes]) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(_request(frames), dict)


def test_nobody_there_is_told_in_time() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")  # bound, and never answering
        with pytest.raises(EndpointError, match=r"no daemon answers at tcp://.*; is `mertd run` running"):
            ask(f"tcp://127.0.0.1:{port}", {"request": "status"}, timeout_s=0.05)


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "tcp://127.0.0.1:port", "http://x:1", ""])
def test_what_is_no_endpoint_is_told(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="is not an endpoint"):
        ask(endpoint, {"request": "status"})


GOOD = encode(embedding())
BAD_ANSWERS = {
    "not msgpack": b"\xc1",
    "nothing": b"",
    "a number": msgpack.packb(1),
    "an empty map": msgpack.packb({}),
    "ok without messages": msgpack.packb({"ok": True}),
    "ok of another kind": msgpack.packb({"ok": 1, "error": 2}),
    "messages that are no list": msgpack.packb({"ok": True, "messages": "two"}),
    "a message that is a number": msgpack.packb({"ok": True, "messages": [1]}),
    "frames that are text": msgpack.packb({"ok": True, "messages": [["topic", "payload"]]}),
    "frames that are numbers": msgpack.packb({"ok": True, "messages": [[1, 2]]}),
    "one frame": msgpack.packb({"ok": True, "messages": [GOOD[:1]]}),
    "a message of another schema": msgpack.packb({"ok": True, "messages": [[GOOD[0], msgpack.packb({"schema": 2})]]}),
    "keys that are numbers": msgpack.packb({1: 2, "ok": True}),
}


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_an_answer_that_is_none_is_told_as_such(fault: str) -> None:
    with answering(BAD_ANSWERS[fault]) as endpoint, pytest.raises(WireError):
        ask(endpoint, {"request": "status"}, timeout_s=PATIENCE_S)
