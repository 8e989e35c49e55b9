"""A subscriber that knows what it has missed, and has nothing twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mertd.errors import EndpointError, SpaceError, UsageError, WireError
from mertd.stream.client import link as link_module
from mertd.stream.client.inbox import Received
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.server.control_server import Handler
from mertd.stream.server.history import History, Page
from mertd.stream.server.publisher import Publisher
from mertd.wire import Embedding, Event, Message, decode, encode
from messages import MODEL, embedding, event, status
from stream.servers import PATIENCE_S, control, publisher, subscribed


@pytest.fixture
def publishing() -> Iterator[Publisher]:
    with publisher() as found:
        yield found


def receive(subscriber: Subscriber, count: int) -> list[Received]:
    found = [subscriber.receive(PATIENCE_S) for _ in range(count)]
    assert None not in found, "nothing came"
    return [received for received in found if received is not None]


def numbers(found: Iterable[Received]) -> list[tuple[int, int]]:
    """(seq, lost) of each."""
    return [(r.message.seq, r.lost) for r in found if isinstance(r.message, Embedding | Event)]


def test_messages_come_in_order_and_losses_are_counted(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint)
    subscribed(publishing)
    for seq in (3, 4, 7, 8, 20):
        publishing.send(embedding(seq))
    assert numbers(receive(subscriber, 5)) == [(3, 0), (4, 0), (7, 2), (8, 0), (20, 11)]
    subscriber.close()


def test_streams_and_kinds_are_counted_apart(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint, kinds=("embedding", "event", "status"))
    subscribed(publishing, 3)
    messages: list[Message] = [
        embedding(0, "a"),
        embedding(5, "b"),
        event(9, "a"),
        status(),
        embedding(2, "a"),
        event(10, "a"),
        status(),
    ]
    for message in messages:
        publishing.send(message)
    found = receive(subscriber, len(messages))
    assert [received.lost for received in found] == [0, 0, 0, 0, 1, 0, 0]
    subscriber.close()


@pytest.mark.parametrize(
    ("streams", "kinds", "wanted"),
    [
        ((), ("embedding",), ["embedding a", "embedding ab", "embedding b"]),
        (("a",), ("embedding",), ["embedding a"]),
        (("a", "b"), ("embedding", "event"), ["embedding a", "embedding b", "event a"]),
        (("ab",), ("event", "status"), ["status"]),
        ((), ("event", "status"), ["event a", "status"]),
    ],
)
def test_only_what_was_asked_for_comes(
    publishing: Publisher, streams: tuple[str, ...], kinds: tuple[str, ...], wanted: list[str]
) -> None:
    subscriber = Subscriber(publishing.endpoint, streams, kinds)
    subscribed(publishing, sum(1 if kind == "status" else max(1, len(streams)) for kind in kinds))
    for message in (embedding(0, "a"), embedding(0, "ab"), embedding(0, "b"), event(0, "a"), status()):
        publishing.send(message)
    found = [received.message for received in receive(subscriber, len(wanted))]
    assert [f"{m.kind} {m.stream}" if isinstance(m, Embedding | Event) else m.kind for m in found] == wanted
    assert subscriber.receive(0) is None
    subscriber.close()


def past(publishing: Publisher, asked: list[dict[str, Any]] | None = None) -> Handler:
    """What the daemon would answer about what has been published; `asked` is told the requests."""

    def answer(request: dict[str, Any]) -> Page:
        if asked is not None:
            asked.append(request)
        if request["request"] == "status":
            sent = {k: publishing.history.last(k, "room", 1).messages for k in ("embedding", "event")}
            ends = {k: seq_of(frames[0]) + 1 if frames else 0 for k, frames in sent.items()}
            return Page([encode(status(streams={"room": {"embedded": ends["embedding"], "events": ends["event"]}}))], False)
        return publishing.history.between(request["kind"], request["stream"], request["first"], request["end"])

    return answer


def seq_of(frames: list[bytes]) -> int:
    message = decode(frames)
    assert isinstance(message, Embedding | Event)
    return message.seq


def told(embedded: int) -> Message:
    """A status after so many embeddings."""
    return status(streams={"room": {"embedded": embedded, "events": 0}})


def test_the_past_comes_first_and_what_overlaps_comes_once(publishing: Publisher) -> None:
    for seq in range(600):  # of which two pages are asked for
        publishing.send(embedding(seq))
    with control(past(publishing)) as endpoint, Subscriber(publishing.endpoint, control=endpoint, last=400) as subscriber:
        subscribed(publishing, 2)
        publishing.send(embedding(600))
        found = receive(subscriber, 401)
        assert numbers(found) == [(seq, 0) for seq in range(200, 601)]
        replayed = [r.message.replay for r in found if isinstance(r.message, Embedding)]
        assert replayed == [True] * 400 + [False]
        assert subscriber.receive(0) is None
        assert (subscriber.lost, subscriber.recovered) == (0, 0)


def test_a_hole_is_filled_from_the_history(publishing: Publisher) -> None:
    with control(past(publishing)) as endpoint, Subscriber(publishing.endpoint, control=endpoint) as subscriber:
        subscribed(publishing, 2)
        publishing.send(embedding(0))
        for seq in range(1, 5):
            lose(publishing, embedding(seq))
        publishing.send(embedding(5))
        assert numbers(receive(subscriber, 6)) == [(seq, 0) for seq in range(6)]
        assert (subscriber.lost, subscriber.recovered) == (0, 4)


def test_a_loss_at_the_end_is_found_by_the_next_status(publishing: Publisher) -> None:
    with control(past(publishing)) as endpoint, Subscriber(publishing.endpoint, control=endpoint) as subscriber:
        subscribed(publishing, 2)
        publishing.send(told(0))
        lose(publishing, embedding(0))
        lose(publishing, embedding(1))
        publishing.send(told(2))
        assert numbers(receive(subscriber, 2)) == [(0, 0), (1, 0)]
        publishing.send(told(2))
        publishing.send(embedding(2))
        assert numbers(receive(subscriber, 1)) == [(2, 0)]
        assert (subscriber.lost, subscriber.recovered) == (0, 2)


def test_what_the_history_has_not_is_lost_and_counted(publishing: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    publishing.history = History(limit_bytes=3 * 4_200)
    with control(past(publishing)) as endpoint, Subscriber(publishing.endpoint, control=endpoint) as subscriber:
        subscribed(publishing, 2)
        publishing.send(embedding(0))
        for seq in range(1, 8):
            lose(publishing, embedding(seq))
        publishing.send(embedding(8))
        found = numbers(receive(subscriber, 3))
        (first, lost), *rest = found[1:]
        assert found[0] == (0, 0)
        assert lost == first - 1 > 0
        assert all(n == 0 for _, n in rest)
        assert subscriber.lost == lost
        assert f"{lost} messages of embedding/room" in caplog.text


def test_a_daemon_that_was_started_again_is_asked_for_its_beginning(publishing: Publisher) -> None:
    with control(past(publishing)) as endpoint, Subscriber(publishing.endpoint, control=endpoint) as subscriber:
        subscribed(publishing, 2)
        publishing.send(embedding(7))
        assert numbers(receive(subscriber, 1)) == [(7, 0)]
        publishing.history = History()
        again = bytes(16)
        lose(publishing, embedding(0, boot=again))
        lose(publishing, embedding(1, boot=again))
        publishing.send(embedding(2, boot=again))
        assert numbers(receive(subscriber, 3)) == [(0, 0), (1, 0), (2, 0)]


def test_a_control_socket_that_does_not_answer_is_not_asked_again_soon(publishing: Publisher) -> None:
    asked: list[dict[str, Any]] = []

    def refuse(request: dict[str, Any]) -> Page:
        asked.append(request)
        raise WireError("not today")

    with control(refuse) as endpoint, Subscriber(publishing.endpoint, control=endpoint) as subscriber:
        subscribed(publishing, 2)
        for seq in (0, 2, 4, 6):
            publishing.send(embedding(seq))
        assert numbers(receive(subscriber, 4)) == [(0, 0), (2, 1), (4, 1), (6, 1)]
        assert subscriber.lost == 3
        assert len(asked) == 1


def test_a_viewer_gets_the_newest_of_each_stream(publishing: Publisher) -> None:
    with Subscriber(publishing.endpoint, kinds=("embedding", "event"), newest=True) as subscriber:
        subscribed(publishing, 2)
        for seq in range(5):
            publishing.send(embedding(seq, "a"))
        publishing.send(event(0, "a"))
        publishing.send(embedding(9, "b"))
        publishing.send(embedding(10, "b"))
        seen: list[int] = []
        while not seen or seen[-1] != 10:
            seen += [seq for seq, _ in numbers(receive(subscriber, 1))]
        assert 4 in seen
        assert subscriber.passed_over + len(seen) == 8
        assert subscriber.lost == 0


@pytest.mark.parametrize("mixed", [False, True])
def test_vectors_of_two_spaces_are_not_mixed_unless_that_is_wanted(publishing: Publisher, mixed: bool) -> None:
    other = replace(MODEL, space="fedcba9876543210")
    with Subscriber(publishing.endpoint, mix_spaces=mixed) as subscriber:
        subscribed(publishing)
        publishing.send(embedding(0))
        publishing.send(embedding(1, model=other))
        publishing.send(embedding(2))
        assert numbers(receive(subscriber, 1)) == [(0, 0)]
        if not mixed:
            with pytest.raises(SpaceError, match="fedcba9876543210, others are of 0123456789abcdef"):
                subscriber.receive(PATIENCE_S)
        assert numbers(receive(subscriber, 2 if mixed else 1))[-1] == (2, 0)


def test_a_program_iterates(publishing: Publisher) -> None:
    with Subscriber(publishing.endpoint, timeout=0.2) as subscriber:
        subscribed(publishing)
        publishing.send(embedding(0))
        publishing.send(embedding(1))
        messages = iter(subscriber)
        assert [message.seq for message in (next(messages), next(messages)) if isinstance(message, Embedding)] == [0, 1]
        with pytest.raises(EndpointError, match=r"nothing in 0\.2 s from tcp"):
            next(messages)


def test_a_program_with_an_event_loop_iterates_and_holds_nothing_up(publishing: Publisher) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def follow(subscriber: Subscriber) -> list[int]:
        turning = asyncio.create_task(turn())
        found: list[int] = []
        async for message in subscriber:
            assert isinstance(message, Embedding)
            found.append(message.seq)
            if message.seq == 0:
                lose(publishing, embedding(1))
                before = turns
                asyncio.get_running_loop().call_later(0.05, publishing.send, embedding(2))
            if message.seq == 2:
                break
        assert turns > before + 10
        assert await subscriber.receive_async(0) is None
        turning.cancel()
        return found

    with control(past(publishing)) as endpoint:
        with Subscriber(publishing.endpoint, control=endpoint, timeout=PATIENCE_S) as subscriber:
            subscribed(publishing, 2)
            publishing.send(embedding(0))
            assert asyncio.run(follow(subscriber)) == [0, 1, 2]


def test_daemons_with_streams_of_one_name_are_told_apart() -> None:
    with publisher() as a, publisher() as b, publisher() as c:
        daemons = {"attic": a, "bar": b, "cellar": c}
        with Subscriber([p.endpoint for p in daemons.values()]) as subscriber:
            for publishing in daemons.values():
                subscribed(publishing)
            for seq in range(3):
                for number, (name, publishing) in enumerate(daemons.items()):
                    publishing.send(embedding(seq + 10 * number, daemon=name, boot=bytes([number] * 16)))
            found = receive(subscriber, 9)
            assert subscriber.lost == 0
        for number, (name, publishing) in enumerate(daemons.items()):
            own = [r for r in found if isinstance(r.message, Embedding) and r.message.daemon == name]
            assert numbers(own) == [(seq + 10 * number, 0) for seq in range(3)]
            assert {r.endpoint for r in own} == {publishing.endpoint}


@pytest.mark.parametrize(
    "words",
    [
        {"endpoint": []},
        {"endpoint": ["tcp://127.0.0.1:1", "tcp://127.0.0.1:1"]},
        {"endpoint": ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"], "control": "tcp://127.0.0.1:3"},
        {"endpoint": "tcp://127.0.0.1:1", "last": 3},
        {"endpoint": "tcp://127.0.0.1:1", "keys": [None, None]},
        {"endpoint": "tcp://127.0.0.1:1", "kinds": ("embeddings",)},
    ],
)
def test_arguments_that_make_no_sense_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Subscriber(**words)


def lose(publishing: Publisher, message: Embedding) -> None:
    """Publish so that no subscriber hears it, as when its queue is full."""
    publishing.history.add(message, encode(message))


def test_what_is_no_message_is_told_and_the_next_one_comes(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint)
    subscribed(publishing)
    publishing._bound.socket.send_multipart([b"embedding/room/", b"\xc1"])
    publishing.send(embedding(1))
    with pytest.raises(WireError, match="not msgpack"):
        subscriber.receive(PATIENCE_S)
    assert numbers(receive(subscriber, 1)) == [(1, 0)]
    subscriber.close()


def test_silence_is_none(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint)
    assert subscriber.receive(0) is None
    assert subscriber.receive(0.01) is None
    assert subscriber.receive(-1) is None
    subscriber.close()


@pytest.mark.parametrize("endpoint", ["", "tcp://", "nowhere", "tcp://127.0.0.1:x", "ftp://a:1"])
def test_what_is_no_endpoint_is_told(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="is not an endpoint"):
        Subscriber(endpoint)


def test_one_name_is_one_stream_and_one_kind() -> None:
    with publisher() as publishing, Subscriber(publishing.endpoint, streams="room", kinds="event") as subscriber:
        subscribed(publishing)
        publishing.send(event(0, "r"))
        publishing.send(event(0, "room"))
        received = subscriber.receive(PATIENCE_S)
        assert received is not None
        assert received.message.stream == "room"  # type: ignore[union-attr]


def test_a_closed_subscriber_says_so_at_once() -> None:
    subscriber = Subscriber("tcp://127.0.0.1:1")
    subscriber.close()
    subscriber.close()
    with pytest.raises(UsageError, match="is closed; subscribe again"):
        subscriber.receive()
    with pytest.raises(UsageError, match="is closed; subscribe again"):
        next(iter(subscriber))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_subscribe_again() -> None:
    subscriber = Subscriber("tcp://127.0.0.1:1")
    said, child_says = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            subscriber.receive(1)
        except UsageError as error:
            os.write(child_says, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert "subscribe again in the new process" in os.read(said, 1_000).decode()
    os.close(said)
    os.close(child_says)
    subscriber.close()


def test_that_no_daemon_answers_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SILENCE_S", 0.05)
    with Subscriber("tcp://127.0.0.1:1") as subscriber:
        assert subscriber.receive(0.3) is None
    assert [record.getMessage() for record in caplog.records] == [
        "no daemon answers at tcp://127.0.0.1:1 yet; waiting for it (is `mertd run` running, with this --bind?)"
    ]


def test_that_a_stream_is_unknown_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with publisher() as publishing, Subscriber(publishing.endpoint, "hall", control="tcp://127.0.0.1:1") as subscriber:
        subscribed(publishing, 2)
        for _ in range(2):
            publishing.send(status(streams={"room": {}}))
        publishing.send(embedding(0, "hall"))
        assert subscriber.receive(PATIENCE_S)
    assert [record.getMessage() for record in caplog.records] == [
        f"{publishing.endpoint} has no stream hall, only room; waiting for it"
    ]


def test_a_vector_may_be_written_to() -> None:
    with publisher() as publishing, Subscriber(publishing.endpoint) as subscriber:
        subscribed(publishing)
        publishing.send(embedding())
        received = subscriber.receive(PATIENCE_S)
        assert received is not None
        received.message.vector[0, 0] = 1.0  # type: ignore[union-attr]
