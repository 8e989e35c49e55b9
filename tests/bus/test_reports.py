"""What clients of JetStream were reported to do wrong: each report is tried on ours. Its number stands at the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from bus.cluster import Cluster
from bus.publishing import Publisher
from bus.test_bus_subscriber import joined, seqs, subscribe, take
from command_process import PATIENCE_S, wait_until
from mertd.bus import stream_consumer
from mertd.bus.bus_cursor import BusCursor, BusPlaces
from mertd.bus.stream_consumer import StreamPlace
from messages import embedding

pytestmark = pytest.mark.slow


@pytest.fixture
def published(bus: Cluster) -> Iterator[Publisher]:
    with Publisher(bus) as made:
        yield made


def delete_consumers(published: Publisher) -> int:
    """Delete all of them, as a server does that is started again, and return how many that were."""
    there = published.consumers()

    async def work(client: Client) -> None:
        for name in there:
            await client.jetstream().delete_consumer(published.name, name)

    published.do(work)
    return len(there)


def test_a_consumer_that_is_gone_is_made_anew(published: Publisher) -> None:
    """nats.py #510, nats.go #1094, nats.go #1370: an ordered consumer stays silent, or fails with "consumer not found"."""
    with subscribe(published, resume={}) as subscriber:
        for seq in range(3):
            published.publish(embedding(seq))
            assert seqs(take(subscriber, 1)) == [("studio", "room", seq, 0)]
            assert delete_consumers(published) == 1


def test_a_consumer_that_is_gone_while_it_begins_at_a_time_is_made_anew(published: Publisher) -> None:
    """nats.net #420: made anew with a time and a number, which a server refuses."""
    with subscribe(published, since=0) as subscriber:
        wait_until(lambda: len(published.consumers()) == 1, PATIENCE_S, lambda: "there is no consumer")
        delete_consumers(published)
        published.publish(embedding(0))
        take(subscriber, 1)
        delete_consumers(published)
        published.publish(embedding(1))
        assert seqs(take(subscriber, 1)) == [("studio", "room", 1, 0)]


def test_what_is_published_before_the_first_message_came_is_not_missed() -> None:
    """nats-server #3143: a consumer of new messages begins anew after the server was started again."""
    with Cluster() as bus, Publisher(bus) as published, subscribe(published) as subscriber:
        wait_until(lambda: len(published.consumers()) == 1, PATIENCE_S, lambda: "there is no consumer")
        bus.nodes[0].kill()
        bus.nodes[0].start()
        bus.wait_ready()
        published.publish(embedding(5))  # before the reader has noticed
        assert seqs(take(subscriber, 1)) == [("studio", "room", 5, 0)]


def test_a_client_that_was_killed_before_its_first_message_begins_where_it_was(published: Publisher, tmp_path: Path) -> None:
    """telegraf #18734, kyma #14371: what is published while a reader is away is missed, or all comes again."""
    cursor = tmp_path / "cursor"
    published.publish(embedding(0))
    with subscribe(published, cursor=cursor) as subscriber:
        wait_until(lambda: subscriber.receive(0.1) is None and cursor.exists(), PATIENCE_S, lambda: "no place is kept")
    published.publish(embedding(1))
    with subscribe(published, cursor=cursor) as subscriber:
        assert seqs(take(subscriber, 1)) == [("studio", "room", 1, 0)]


def test_a_place_beyond_the_end_of_the_stream_is_no_place(published: Publisher, tmp_path: Path) -> None:
    """nats-server #5412, #6206: after a loss of power a consumer waits until the stream has reached its number."""
    published.publish(*(embedding(n) for n in range(3)))
    with subscribe(published, since=0, cursor=tmp_path / "cursor") as subscriber:
        take(subscriber, 2)
    kept = BusCursor(tmp_path / "cursor", published.name, None)
    place = kept.found.place
    assert place is not None
    kept.note_change()
    kept.save(BusPlaces(StreamPlace(place.created, 1_000), kept.found.runs, None))
    kept.close()
    with subscribe(published, cursor=tmp_path / "cursor") as subscriber:
        published.publish(embedding(3))
        assert seqs(take(subscriber, 3)) == [("studio", "room", n, 0) for n in (1, 2, 3)]


def test_a_reader_that_does_not_read_gets_everything_later(published: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """nats-server #4112, quarkus #487: too much is underway, and nothing comes any more, or comes again."""
    monkeypatch.setattr(stream_consumer, "UNUSED_S", 0.2)
    count = 2_000
    published.publish(*(embedding(n, vector=embedding().vector[:, :8]) for n in range(count)))
    with subscribe(published, resume={}) as subscriber:
        take(subscriber, 1)
        wait_until(lambda: not published.consumers(), PATIENCE_S, lambda: "the server keeps the consumer")
        assert [seq for *_, seq, lost in seqs(take(subscriber, count - 1)) if not lost] == list(range(1, count))


def test_a_consumer_that_gives_nothing_is_made_anew(published: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """nats-server #5679: a consumer says that it lives, and gives nothing of what is there."""
    monkeypatch.setattr(stream_consumer, "EXPIRES_S", 0.5)
    monkeypatch.setattr(stream_consumer, "HEARTBEAT_S", 0.1)
    with subscribe(published, resume={}) as subscriber:
        wait_until(lambda: len(published.consumers()) == 1, PATIENCE_S, lambda: "there is no consumer")
        for seq in range(3):
            before = published.consumers()
            published.publish(embedding(seq))
            assert seqs(take(subscriber, 1)) == [("studio", "room", seq, 0)]
            wait_until(lambda b=before: not set(b) & set(published.consumers()), PATIENCE_S, lambda: "it stays")  # type: ignore[misc]


def test_nothing_is_left_on_the_server(published: Publisher) -> None:
    """aihub-core #1828: each start of a reader leaves a consumer behind."""
    for _ in range(3):
        with subscribe(published, resume={}) as subscriber:
            published.publish(embedding(0))
            take(subscriber, 1)
            assert len(published.consumers()) == 1
        wait_until(lambda: not published.consumers(), PATIENCE_S, lambda: f"left: {published.consumers()}")


def test_the_order_is_kept_over_the_death_of_a_reader(published: Publisher, tmp_path: Path) -> None:
    """nats-server #6114, nats-streaming-server #187: what was not acknowledged comes behind what is newer."""
    published.publish(*(embedding(n) for n in range(7)))
    found: list[Any] = []
    for _ in range(3):
        with subscribe(published, since=0, cursor=tmp_path / "cursor") as subscriber:
            found.append([r.message.seq for r in take(subscriber, 3)])  # type: ignore[union-attr]
    assert found == [[0, 1, 2], [2, 3, 4], [4, 5, 6]], "the last of each is not acknowledged"


def test_all_servers_may_be_started_again_at_once() -> None:
    """dendrite #3177, nats-server #2397: reading ends for ever with "server shutdown"."""
    with Cluster() as bus, Publisher(bus) as published, subscribe(published) as subscriber:
        joined(subscriber, published)
        for seq in range(3):
            bus.nodes[0].kill(15)  # type: ignore[arg-type]
            bus.nodes[0].start()
            bus.wait_ready()
            published.publish(embedding(seq))
            assert seqs(take(subscriber, 1)) == [("studio", "room", seq, 0)]


def test_purging_by_number_or_by_subject_is_a_hole_and_no_end(published: Publisher) -> None:
    """nats-server #4196, #4168: after a purge, a consumer is stuck."""
    with subscribe(published, resume={}) as subscriber:
        published.publish(*(embedding(n) for n in range(3)))
        take(subscriber, 3)
        delete_consumers(published)
        published.publish(embedding(3), embedding(0, "hall"), embedding(4))
        published.do(lambda c: c.jetstream().purge_stream(published.name, subject="mertd.studio.hall.embedding"))
        published.publish(embedding(1, "hall"))
        found = {(stream, seq, lost) for _, stream, seq, lost in seqs(take(subscriber, 3))}
    # The reader may have had the message before it was purged.
    assert found in ({("room", 3, 0), ("room", 4, 0), ("hall", 1, 1)}, {("room", 3, 0), ("hall", 0, 0), ("room", 4, 0)})
