"""Questions and answers over real sockets, with clients that cannot ask and servers that cannot answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable
from queue import SimpleQueue
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.errors import EndpointError, WireError
from mertd.stream.envelope import MAX_REQUEST, parse_request
from mertd.stream.request import ask, ask_page
from mertd.stream.server.allowance import Allowance
from mertd.stream.server.control_server import REMEMBERED, REQUESTS, WAITING
from mertd.stream.server.history import Page
from mertd.wire import Event, Status, encode
from messages import embedding, event, status
from stream.servers import PATIENCE_S, answering, control


def answer_status(request: dict[str, Any]) -> Page:
    """As the daemon does: known questions are answered, others refused."""
    if request.get("request") == "status":
        return Page([encode(status(published=request.get("number", 0)))], False)
    if request.get("request") == "history":
        return Page([encode(event(seq)) for seq in range(request["last"])], True)
    raise WireError(f"request {request.get('request')!r} is not known")


def test_a_question_is_answered_with_messages() -> None:
    with control(answer_status) as endpoint:
        (found,) = ask(endpoint, {"request": "status", "number": 7})
        assert isinstance(found, Status)
        assert found.published == 7
        page = ask_page(endpoint, {"request": "history", "last": 300})
        assert [message.seq for message in page.messages if isinstance(message, Event)] == list(range(300))
        assert page.more
        assert ask(endpoint, {"request": "history", "last": 0}) == []


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
        return msgpack.unpackb(socket.recv_multipart()[-1])


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
        ([b"", b"", b""], "a request is one frame, not 3"),
        ([b"x", msgpack.packb({"schema": 1})], "a request is one frame, not 2"),
        ([b"", msgpack.packb({"schema": 1, "id": 1.5})], "`id` must be a whole number or text of at most 64 characters"),
        ([b"", msgpack.packb({"schema": 1, "id": "x" * 65})], "`id` must be a whole number or text of at most 64 characters"),
        ([b"", b"\x81\xa1a" * 1_300 + b"\xc0"], "request is not msgpack"),
        ([b"", msgpack.packb({"schema": 1})], "request None is not known"),
        ([b"", msgpack.packb({"schema": 1, "request": ["status"]})], "must be the name of a request, not list"),
        ([b"", msgpack.packb({"schema": 1, "request": {"a": 1}})], "must be the name of a request, not dict"),
    ],
)
def test_a_client_that_cannot_ask_is_told_and_harms_nobody(frames: list[bytes], says: str) -> None:
    with control(answer_status) as endpoint:
        answer = raw(endpoint, *frames)
        assert answer["ok"] is False
        assert says in answer["error"]
        assert ask(endpoint, {"request": "status"}), "the next one is served"


def test_questions_without_a_wait_are_told_apart_by_their_id() -> None:
    with control(answer_status) as endpoint, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for number in ("a", 7, None):
            question = {"schema": 1, "request": "status"}
            socket.send(msgpack.packb(question if number is None else {**question, "id": number}))
        answers = [msgpack.unpackb(socket.recv()) for _ in range(3) if socket.poll(PATIENCE_S * 1000)]
    assert [answer.get("id") for answer in answers] == ["a", 7, None]
    assert all(answer["ok"] for answer in answers)


def test_an_answer_that_takes_long_holds_up_nobody() -> None:
    """And no more of them may wait than there is room for."""
    release, loops = threading.Event(), SimpleQueue[asyncio.AbstractEventLoop]()

    async def later() -> Page:
        loops.put(asyncio.get_running_loop())
        await asyncio.to_thread(release.wait, PATIENCE_S)
        return answer_status({"request": "status", "number": 5})

    def handler(request: dict[str, Any]) -> Page | Awaitable[Page]:
        return later() if request["request"] == "later" else answer_status(request)

    with control(handler) as endpoint, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for number in range(WAITING + 1):
            socket.send(msgpack.packb({"schema": 1, "request": "later", "id": number}))
        assert socket.poll(PATIENCE_S * 1000)
        refused = msgpack.unpackb(socket.recv())
        assert (refused["id"], refused["ok"]) == (WAITING, False)
        assert "are waiting already" in refused["error"]
        assert ask(endpoint, {"request": "status"})
        release.set()
        found = {msgpack.unpackb(socket.recv())["id"] for _ in range(WAITING) if socket.poll(PATIENCE_S * 1000)}
    assert found == set(range(WAITING))


def test_who_asks_without_end_is_refused_and_the_others_are_not() -> None:
    allowance = Allowance(REQUESTS, REMEMBERED)
    burst, rate = round(REQUESTS.burst), REQUESTS.per_second
    assert [allowance.take(b"greedy", 0.0) for _ in range(burst + 2)] == [True] * burst + [False] * 2
    assert allowance.take(b"modest", 0.0)
    assert not allowance.take(b"greedy", 0.5 / rate)
    assert allowance.take(b"greedy", 1.6 / rate)
    assert sum(allowance.take(b"greedy", 1_000.0) for _ in range(1_000)) == burst, "it saves no more than that"
    for number in range(3 * REMEMBERED):
        allowance.take(str(number).encode(), 1_000.0)
    assert len(allowance) == REMEMBERED


def test_a_flood_is_answered_with_refusals() -> None:
    with control(answer_status) as endpoint, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        for _ in range(200):
            socket.send(msgpack.packb({"schema": 1, "request": "status"}))
        answers = [msgpack.unpackb(socket.recv()) for _ in range(200) if socket.poll(PATIENCE_S * 1000)]
        assert ask(endpoint, {"request": "status"}), "another client is served"
    refused = [answer["error"] for answer in answers if not answer["ok"]]
    assert len(answers) == 200
    assert refused
    assert set(refused) == {"too many requests: 50 a second are answered"}


def test_a_question_as_long_as_a_book_is_not_read() -> None:
    with control(answer_status) as endpoint:
        assert raw(endpoint, b"", msgpack.packb({"schema": 1, "request": "status", "x": bytes(MAX_REQUEST)})) is None
        assert ask(endpoint, {"request": "status"})


@given(st.lists(st.binary(max_size=40), max_size=3))
@settings(max_examples=examples(400))
def test_any_frames_are_a_request_or_refused(frames: list[bytes]) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(parse_request(frames)[0], dict)


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
