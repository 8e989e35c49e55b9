"""The publisher with real subscribers: one that sleeps costs the others nothing, and what it missed is counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from mertd.errors import EndpointError, WireError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.server import publisher as module
from mertd.stream.server.publisher import Publisher
from mertd.wire import Embedding, Message, decode
from messages import embedding, event, status
from stream.servers import publisher, subscribed

PATIENCE_S = 30.0


@pytest.fixture
def publishing() -> Iterator[Publisher]:
    with publisher() as found:
        yield found


def receive(subscriber: Subscriber) -> Message:
    received = subscriber.receive(PATIENCE_S)
    assert received is not None, "nothing came"
    return received.message


def test_what_is_sent_arrives(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint, kinds=("embedding", "event", "status"))
    subscribed(publishing, 3)
    for message in (embedding(0), event(0), status(), embedding(1)):
        publishing.send(message)
    assert [receive(subscriber).kind for _ in range(4)] == ["embedding", "event", "status", "embedding"]
    assert (publishing.published, publishing.dropped) == (4, 0)
    subscriber.close()


def test_without_subscribers_nothing_is_dropped(publishing: Publisher) -> None:
    for seq in range(2_000):
        publishing.send(event(seq))
    assert (publishing.published, publishing.dropped) == (2_000, 0)


def test_a_subscriber_that_sleeps_misses_messages_and_the_others_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sleeps sees holes in `seq` when it wakes; the daemon counts each time that somebody's queue runs full."""
    monkeypatch.setattr(module, "HIGH_WATER_MARK", 50)
    large = np.zeros((13, 768), np.float32)
    with publisher() as publishing, zmq.Context() as context, context.socket(zmq.SUB) as sleeper:
        sleeper.linger, sleeper.rcvhwm, sleeper.rcvbuf = 0, 1, 8_192
        sleeper.subscribe("embedding/")
        sleeper.connect(publishing.endpoint)
        subscribed(publishing)
        awake = Subscriber(publishing.endpoint, streams=("room",))
        subscribed(publishing)

        def publish() -> None:
            """One message more, which the one who is awake gets at once."""
            publishing.send(embedding(publishing.published, vector=large))
            received = awake.receive(PATIENCE_S)
            assert received is not None
            assert (received.message.seq, received.lost) == (publishing.published - 1, 0)  # type: ignore[union-attr]

        got: list[int] = []
        for times in (1, 2):
            while publishing.dropped < times:
                publish()
                assert publishing.published < 5_000, "no queue ever ran full"
            for _ in range(20):
                publish()
            last = publishing.published
            while not got or got[-1] < last:  # it wakes, reads all that is left, and then what is new
                publish()
                while sleeper.poll(0 if got and got[-1] >= last else 100):
                    message = decode(sleeper.recv_multipart())
                    assert isinstance(message, Embedding)
                    got.append(message.seq)
        assert got == sorted(set(got))
        assert len(got) <= publishing.published - 2 * 20, "what it had no room for is gone"
        awake.close()


def test_a_message_that_cannot_be_sent_leaves_no_trace(publishing: Publisher) -> None:
    with pytest.raises(WireError):
        publishing.send(event(0, detail={"x": object()}))
    assert publishing.published == 0
    assert publishing.history.last("event", "", 10).messages == []


def test_subscriptions_are_read_so_that_they_do_not_pile_up(publishing: Publisher) -> None:
    subscriber = Subscriber(publishing.endpoint, streams=[f"s{number}" for number in range(50)])
    subscribed(publishing, 50)
    again = Subscriber(publishing.endpoint, streams=["another"])
    assert publishing._bound.socket.poll(PATIENCE_S * 1000)
    assert not publishing.read_subscriptions()
    assert not publishing._bound.socket.poll(0)
    publishing.send(embedding(0, "another"))
    assert receive(again).kind == "embedding"
    subscriber.close()
    again.close()


def test_an_endpoint_that_is_taken_is_refused(publishing: Publisher) -> None:
    with zmq.Context() as context, pytest.raises(EndpointError, match=r"is in use; choose another one"):
        Publisher(context, publishing.endpoint)
