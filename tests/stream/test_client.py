"""A subscriber that knows what it has missed, and has nothing twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mertd.errors import EndpointError, WireError
from mertd.stream.client import Received, Subscriber
from mertd.stream.publisher import Publisher
from mertd.wire import Embedding, Event, Message
from messages import embedding, event, status
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


def test_streams_kinds_and_daemons_are_counted_apart(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint, kinds=("embedding", "event", "status"))
    subscribed(publishing, 3)
    messages: list[Message] = [
        embedding(0, "a"),
        embedding(5, "b"),
        event(9, "a"),
        status(),
        embedding(2, "a"),
        embedding(0, "a", boot=bytes(16)),
        event(10, "a"),
        status(),
    ]
    for message in messages:
        publishing.send(message)
    found = receive(subscriber, len(messages))
    assert [received.lost for received in found] == [0, 0, 0, 0, 1, 0, 0, 0]
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


def replays(publishing: Publisher) -> Any:
    return lambda request: publishing.replay(request["kind"], request["stream"], request["last"])


def test_the_past_comes_first_and_what_overlaps_comes_once(publishing: Publisher) -> None:
    for seq in range(5):
        publishing.send(embedding(seq))
    with control(replays(publishing)) as endpoint:
        subscriber = Subscriber(publishing.endpoint)
        subscribed(publishing)
        publishing.send(embedding(5))
        publishing.send(embedding(6))  # both live, and in the past that is asked for
        subscriber.catch_up(endpoint, "room", 4)
        publishing.send(embedding(7))
        found = receive(subscriber, 5)
        assert numbers(found) == [(seq, 0) for seq in (3, 4, 5, 6, 7)]
        assert [r.message.replay for r in found if isinstance(r.message, Embedding)] == [True, True, True, True, False]
        assert subscriber.receive(0) is None
        subscriber.close()


def test_a_past_that_ends_before_the_present_shows_the_loss(publishing: Publisher) -> None:
    for seq in range(3):
        publishing.send(event(seq))
    with control(replays(publishing)) as endpoint:
        subscriber = Subscriber(publishing.endpoint, kinds=("event",))
        subscribed(publishing)
        subscriber.catch_up(endpoint, "", 2, kind="event")
        publishing.send(event(6))
        assert numbers(receive(subscriber, 3)) == [(1, 0), (2, 0), (6, 3)]
        subscriber.close()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), max_size=30))
@settings(max_examples=100)
def test_each_message_once_and_every_hole_counted(arrivals: list[tuple[str, int]]) -> None:
    """Whatever the order: `lost` counts those that had not come by the time a later one did."""
    subscriber = Subscriber("tcp://127.0.0.1:1")
    had: dict[str, list[int]] = {}
    for stream, seq in arrivals:
        lost = subscriber._account(embedding(seq, stream))
        before = had.setdefault(stream, [])
        if before and seq <= max(before):
            assert lost is None
            continue
        assert lost == (seq - max(before) - 1 if before else 0)
        before.append(seq)
    subscriber.close()


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
