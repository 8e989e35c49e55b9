"""What a client of a bus gets: each message once, in order for each stream, with every hole announced."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

import mertd
from bus.cluster import Cluster
from bus.publishing import Publisher
from command_process import PATIENCE_S, wait_until
from mertd.bus.bus_holes import BusHole
from mertd.errors import EndpointError, SpaceError, StoreError, UsageError
from mertd.stream.client.inbox import Received
from mertd.wire import Embedding, encode
from messages import MODEL, embedding, event, status

BOOT = bytes(16)
OTHER = bytes([1]) * 16
BOTH = ("embedding", "event")


@pytest.fixture
def published(bus: Cluster) -> Iterator[Publisher]:
    with Publisher(bus) as made:
        yield made


def subscribe(published: Publisher, *words: Any, **options: Any) -> mertd.Subscriber:
    options = {"bus_stream": published.name, "timeout": PATIENCE_S, **options}
    return mertd.subscribe(published.bus.url(), *words, **options)  # type: ignore[return-value]


def take(subscriber: mertd.Subscriber, count: int) -> list[Received]:
    found = [subscriber.receive(PATIENCE_S) for _ in range(count)]
    assert None not in found, f"only {len([one for one in found if one])} of {count} came"
    return [one for one in found if one is not None]


def seqs(found: list[Received]) -> list[tuple[str, str, int, int]]:
    return [(r.message.daemon, r.message.stream, r.message.seq, r.lost) for r in found]  # type: ignore[union-attr]


def nothing_more(subscriber: mertd.Subscriber, published: Publisher) -> bool:
    """Whether the next message is one that is published now."""
    mark = embedding(0, boot=os.urandom(16), daemon=os.urandom(8).hex())
    published.publish(mark)
    received = subscriber.receive(PATIENCE_S)
    return received is not None and received.message.daemon == mark.daemon


def joined(subscriber: mertd.Subscriber, published: Publisher) -> None:
    """Wait until what is published from now on will come: it begins with what comes."""
    boot = os.urandom(16)
    for seq in itertools.count():
        published.publish(embedding(seq, boot=boot, daemon="mark"))
        received = subscriber.receive(0.1)
        if received is not None:
            while received.message.seq < seq:  # type: ignore[union-attr]
                (received,) = take(subscriber, 1)
            return


def test_all_that_is_there_comes_and_then_what_is_new(published: Publisher) -> None:
    published.publish(embedding(0), event(0), embedding(1), embedding(0, daemon="hall", boot=OTHER))
    with subscribe(published, kinds=BOTH, resume={}) as subscriber:
        assert seqs(take(subscriber, 4)) == [
            ("studio", "room", 0, 0),
            ("studio", "room", 0, 0),
            ("studio", "room", 1, 0),
            ("hall", "room", 0, 0),
        ]
        published.publish(embedding(2))
        (found,) = take(subscriber, 1)
    assert isinstance(found.message, Embedding)
    assert (found.message.vector == embedding(2).vector).all()
    assert found.endpoint == published.bus.url()


def test_it_begins_with_what_comes(published: Publisher) -> None:
    published.publish(embedding(4))
    with subscribe(published) as subscriber:
        joined(subscriber, published)
        published.publish(embedding(5), embedding(6))
        assert seqs(take(subscriber, 2)) == [("studio", "room", 5, 0), ("studio", "room", 6, 0)]


@pytest.mark.parametrize("newest", [False, True])
def test_a_message_that_is_there_twice_comes_once(published: Publisher, newest: bool) -> None:
    published.publish(embedding(0), embedding(1), with_id=False)
    published.publish(embedding(0), embedding(1), embedding(2), with_id=False)
    if newest:
        with subscribe(published, newest=True) as subscriber:
            joined(subscriber, published)
            published.publish(embedding(3), embedding(3), with_id=False)
            assert seqs(take(subscriber, 1)) == [("studio", "room", 3, 0)]
        return
    with subscribe(published, resume={}, kinds=BOTH) as subscriber:
        assert seqs(take(subscriber, 3)) == [("studio", "room", n, 0) for n in range(3)]
        assert nothing_more(subscriber, published)
        assert subscriber.lost == 0


def test_a_message_of_an_earlier_run_that_comes_again_is_left_out(published: Publisher) -> None:
    published.publish(embedding(0, boot=BOOT), embedding(0, boot=OTHER), embedding(0, boot=BOOT), with_id=False)
    with subscribe(published, kinds=BOTH, resume={}) as subscriber:
        assert [r.message.boot for r in take(subscriber, 2)] == [BOOT, OTHER]
        assert nothing_more(subscriber, published)


def test_holes_are_announced_for_each_stream_daemon_and_run(published: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    published.publish(embedding(5), embedding(8), embedding(9, daemon="hall", boot=bytes([2]) * 16), embedding(2, boot=OTHER))
    with subscribe(published, since=datetime.timedelta(days=30_000)) as subscriber:
        found = seqs(take(subscriber, 4))
        assert subscriber.lost == 4
    # Nothing is known of what was before the first, and a run that began later is expected from its beginning.
    assert found == [("studio", "room", 5, 0), ("studio", "room", 8, 2), ("hall", "room", 9, 0), ("studio", "room", 2, 2)]
    assert "2 messages of kind embedding of studio/room are lost" in caplog.text


def test_a_hole_that_the_relay_announces_is_lost_also_where_nothing_was_known(published: Publisher) -> None:
    gone = BusHole(embedding().boot, "studio", "room", "embedding", 3, 7, "missed")
    announced = gone.event(embedding(7))
    published.publish(announced, announced, embedding(7), event(0), with_id=False)
    with subscribe(published, kinds=BOTH, since=0) as subscriber:
        found = take(subscriber, 2)
    assert [(r.message.kind, r.message.seq, r.lost) for r in found] == [("embedding", 7, 4), ("event", 0, 0)]  # type: ignore[union-attr]


def test_what_is_no_message_is_left_out_counted_and_said(published: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    subject = "mertd.studio.room.embedding"
    forged = encode(embedding(9, daemon="hall"))[1]
    bad = [b"", b"\xc1", b"\x90" * 100_000, encode(status())[1], forged, encode(embedding(8, "other"))[1], encode(event(9))[1]]
    elsewhere = ["mertd.studio", "mertd.studio.room.status", "mertd.a.b.embedding.c", "mertd.%zz.room.embedding"]
    published.publish(embedding(0))
    published.put((subject, payload, None) for payload in bad)
    published.put((name, encode(embedding(9))[1], None) for name in elsewhere)
    unsaid = BusHole(embedding().boot, "studio", "room", "embedding", 7, 3, "missed").event(embedding(7))
    published.publish(unsaid, embedding(1), with_id=False)
    with subscribe(published, kinds=BOTH, resume={}) as subscriber:
        assert seqs(take(subscriber, 2)) == [("studio", "room", 0, 0), ("studio", "room", 1, 0)]
        assert subscriber.refused == len(bad) + 2  # type: ignore[attr-defined]
    assert len([r for r in caplog.records if "left out" in r.message]) == 1
    assert subscriber.lost == 0


@pytest.mark.slow
def test_streams_and_kinds_are_chosen(published: Publisher) -> None:
    names = ["room", "hall 1.left", "*", ">", "größe", ""]
    published.publish(*(embedding(0, name) for name in names), *(event(0, name) for name in names))
    for name in names:
        with subscribe(published, name, resume={}) as subscriber:
            (found,) = take(subscriber, 1)
            assert isinstance(found.message, Embedding)
            assert found.message.stream == name
    with subscribe(published, ("room", "*"), "event", resume={}) as subscriber:
        assert [(r.message.kind, r.message.stream) for r in take(subscriber, 2)] == [("event", "room"), ("event", "*")]  # type: ignore[union-attr]


def test_it_begins_with_the_last_of_each_stream(published: Publisher) -> None:
    rare = [embedding(n, "rare") for n in range(3)]
    published.publish(*rare[:2], *(embedding(n) for n in range(60)), rare[2], *(event(n) for n in range(9)))
    with subscribe(published, last=2, kinds=BOTH) as subscriber:
        found = [(r.message.kind, *seqs([r])[0][1:]) for r in take(subscriber, 6)]
        assert found == [
            *(("embedding", "rare", 1, 0), ("embedding", "room", 58, 0), ("embedding", "room", 59, 0)),
            *(("embedding", "rare", 2, 0), ("event", "room", 7, 0), ("event", "room", 8, 0)),
        ]
        published.publish(embedding(60))
        assert seqs(take(subscriber, 1)) == [("studio", "room", 60, 0)]
    with subscribe(published, "rare", last=100) as subscriber:
        assert len(take(subscriber, 3)) == 3
        assert nothing_from(subscriber)
    with subscribe(published, "none", last=1) as subscriber:
        assert nothing_from(subscriber)


def nothing_from(subscriber: mertd.Subscriber) -> bool:
    return subscriber.receive(0.2) is None


def test_it_begins_at_a_time(published: Publisher) -> None:
    now = time.time_ns()
    published.publish(*(event(n, time_ns=now + n) for n in range(5)), event(0, "late", time_ns=now - 1))
    published.publish(event(5, time_ns=now - 5))
    with subscribe(published, kinds="event", since=now + 3) as subscriber:
        assert seqs(take(subscriber, 2)) == [("studio", "room", 3, 0), ("studio", "room", 4, 0)]


def test_a_client_continues_where_it_was(published: Publisher, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    published.publish(*(embedding(n) for n in range(6)))
    with subscribe(published, since=0, cursor=cursor) as subscriber:
        assert seqs(take(subscriber, 3))[-1] == ("studio", "room", 2, 0)
    with subscribe(published, cursor=cursor) as subscriber:  # the third was received, but the next one was not asked for
        assert seqs(take(subscriber, 2)) == [("studio", "room", 2, 0), ("studio", "room", 3, 0)]
        subscriber.acknowledge()
    published.publish(embedding(7))
    with subscribe(published, cursor=cursor) as subscriber:
        assert seqs(take(subscriber, 3)) == [("studio", "room", 4, 0), ("studio", "room", 5, 0), ("studio", "room", 7, 1)]
        with pytest.raises(StoreError, match="in use"):
            subscribe(published, cursor=cursor)


def test_messages_are_done_by_hand(published: Publisher, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    published.publish(embedding(0), embedding(0, "hall"), embedding(1), embedding(1, "hall"), embedding(2))
    with subscribe(published, since=0, cursor=cursor, by_hand=True) as subscriber:
        found = take(subscriber, 5)
        subscriber.done([found[1], found[0], found[3]])  # hall 0, room 0, hall 1
        subscriber.done([found[3]])
        subscriber.acknowledge()
    published.publish(embedding(2, "hall"))
    with subscribe(published, cursor=cursor, by_hand=True) as subscriber:
        left = take(subscriber, 3)
        assert seqs(left) == [("studio", "room", 1, 0), ("studio", "room", 2, 0), ("studio", "hall", 2, 0)]
        subscriber.done(left)
    with subscribe(published, cursor=cursor) as subscriber:
        assert nothing_more(subscriber, published)


def test_a_client_that_began_with_what_comes_continues_there(published: Publisher, tmp_path: Path) -> None:
    """Also if nothing came while it was there: what is published while it is away is new to it."""
    published.publish(embedding(0))
    with subscribe(published, cursor=tmp_path / "cursor") as subscriber:
        joined(subscriber, published)
        published.publish(embedding(1))
        assert seqs(take(subscriber, 1)) == [("studio", "room", 1, 0)]
        subscriber.acknowledge()
    published.publish(embedding(2))
    with subscribe(published, cursor=tmp_path / "cursor") as subscriber:
        assert seqs(take(subscriber, 1)) == [("studio", "room", 2, 0)]


def test_a_stream_that_was_made_anew_is_read_from_its_beginning(published: Publisher, tmp_path: Path) -> None:
    published.publish(*(embedding(n) for n in range(5)))
    with subscribe(published, since=0, cursor=tmp_path / "cursor") as subscriber:
        take(subscriber, 5)
        subscriber.acknowledge()
        published.delete()
        published.make()
        published.publish(embedding(3), embedding(4), embedding(5))  # what a relay publishes again
        assert seqs(take(subscriber, 1)) == [("studio", "room", 5, 0)]
        subscriber.acknowledge()
    published.delete()
    published.make()
    published.publish(embedding(5), embedding(6))
    with subscribe(published, cursor=tmp_path / "cursor") as subscriber:
        assert seqs(take(subscriber, 1)) == [("studio", "room", 6, 0)]


@pytest.mark.parametrize("filtered", [False, True])
def test_what_expired_before_it_was_read_is_a_hole(
    published: Publisher, tmp_path: Path, caplog: pytest.LogCaptureFixture, filtered: bool
) -> None:
    kinds = "embedding" if filtered else BOTH
    published.publish(*(embedding(n) for n in range(3)))
    with subscribe(published, kinds=kinds, since=0, cursor=tmp_path / "cursor") as subscriber:
        take(subscriber, 1)
        subscriber.acknowledge()
    published.publish(*(embedding(n) for n in range(3, 8)))
    published.do(lambda client: client.jetstream().purge_stream(published.name, seq=7))
    with subscribe(published, kinds=kinds, cursor=tmp_path / "cursor") as subscriber:
        assert seqs(take(subscriber, 2)) == [("studio", "room", 6, 5), ("studio", "room", 7, 0)]
        assert subscriber.lost == 5
    assert "5 messages of the stream" in caplog.text


@pytest.mark.slow
def test_messages_that_are_deleted_while_it_reads_are_a_hole(published: Publisher) -> None:
    with subscribe(published, resume={}) as subscriber:
        published.publish(embedding(0))
        take(subscriber, 1)

        async def work(client: Client) -> None:
            jetstream = client.jetstream()
            for n in range(1, 600):
                await jetstream.publish("mertd.studio.room.embedding", encode(embedding(n))[1])
            await jetstream.purge_stream(published.name)
            await jetstream.publish("mertd.studio.room.embedding", encode(embedding(600))[1])

        published.do(work)
        found = list(itertools.takewhile(lambda r: r.message.seq < 600, iter(lambda: take(subscriber, 1)[0], None)))  # type: ignore[union-attr]
        assert subscriber.lost == 599 - len(found)


def test_vectors_of_several_spaces_are_kept_apart(published: Publisher) -> None:
    other = MODEL.__class__(**{**vars(MODEL), "space": "f" * 16})
    published.publish(embedding(0), embedding(0, daemon="hall", boot=OTHER, model=other), embedding(1))
    with subscribe(published, resume={}) as subscriber:
        assert seqs(take(subscriber, 1)) == [("studio", "room", 0, 0)]
        with pytest.raises(SpaceError, match="may not be compared"):
            subscriber.receive(PATIENCE_S)
        assert seqs(take(subscriber, 1)) == [("studio", "room", 1, 0)]
    with subscribe(published, resume={}, mix_spaces=True) as subscriber:
        assert len(take(subscriber, 3)) == 3


@pytest.mark.slow
def test_the_newest_of_each_stream(published: Publisher) -> None:
    with subscribe(published, newest=True, kinds=BOTH) as subscriber:
        joined(subscriber, published)
        before = subscriber.passed_over
        published.publish(embedding(0), embedding(0, "hall"), event(0), embedding(1), embedding(2))
        found: list[Received] = []
        while not any(isinstance(r.message, Embedding) and r.message.seq == 2 for r in found):
            time.sleep(0.1)
            found += take(subscriber, 1)
        assert subscriber.lost == 0
        assert len(found) + subscriber.passed_over - before == 5


def test_it_is_iterated_over_with_and_without_an_event_loop(published: Publisher) -> None:
    published.publish(*(embedding(n) for n in range(3)))
    with subscribe(published, resume={}) as subscriber:
        assert [m.seq for m in itertools.islice(subscriber, 3)] == [0, 1, 2]  # type: ignore[union-attr]

    async def read() -> list[int]:
        found: list[int] = []
        with subscribe(published, resume={}) as subscriber:
            async for message in subscriber:
                found.append(message.seq)  # type: ignore[union-attr]
                if len(found) == 3:
                    await asyncio.get_running_loop().run_in_executor(None, published.publish, embedding(3))
                if len(found) == 4:
                    return found
        raise AssertionError

    assert asyncio.run(read()) == [0, 1, 2, 3]


def test_a_wait_that_is_cancelled_loses_nothing(published: Publisher) -> None:
    async def read() -> list[int]:
        found: list[int] = []
        with subscribe(published, resume={}) as subscriber:
            for n in range(20):
                waiting = asyncio.ensure_future(subscriber.receive_async(PATIENCE_S))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await asyncio.get_running_loop().run_in_executor(None, published.publish, embedding(n))
                received = await subscriber.receive_async(PATIENCE_S)
                assert received is not None
                found.append(received.message.seq)  # type: ignore[union-attr]
        return found

    assert asyncio.run(read()) == list(range(20))


def test_silence_is_said_and_a_closed_subscriber_says_so(published: Publisher) -> None:
    with subscribe(published, timeout=0.2) as subscriber, pytest.raises(EndpointError, match=r"nothing in 0.2 s from nats://"):
        next(iter(subscriber))
    with pytest.raises(UsageError, match="closed"):
        subscriber.receive(0)


def test_a_large_message_comes_alone(published: Publisher) -> None:
    """A server may accept larger messages than are asked for at once; here, the limit of asking is lowered instead."""
    from mertd.bus import stream_consumer

    before = stream_consumer.BATCH_BYTES
    stream_consumer.BATCH_BYTES = 2_000
    try:
        published.publish(*(embedding(n) for n in range(4)), *(event(n) for n in range(4)), embedding(4))
        with subscribe(published, kinds=BOTH, resume={}) as subscriber:
            assert len(take(subscriber, 9)) == 9
    finally:
        stream_consumer.BATCH_BYTES = before


@pytest.mark.parametrize(
    ("endpoint", "options", "said"),
    [
        ("nats://a/path", {}, "not the address of a bus"),
        (["nats://a", "tcp://127.0.0.1:1"], {}, "one bus at a time"),
        ("nats://a", {"control": "tcp://127.0.0.1:1"}, "`control` is for daemons"),
        ("nats://a", {"last": 3, "since": 1}, "cannot be combined"),
        ("nats://a", {"kinds": "status"}, "unknown kind 'status'"),
        ("nats://a", {"since": 1, "newest": True}, "`newest` leaves messages out"),
        ("nats://a", {"since": 1, "resume": {}}, "cannot be combined"),
        ("nats://a", {"keys": mertd.BusKeys(credentials="a", nkey="b")}, "cannot be combined"),
        ("tcp://127.0.0.1:1", {"keys": mertd.BusKeys()}, "are for a bus"),
        ("tcp://127.0.0.1:1", {"bus_stream": "x"}, "are for a bus"),
    ],
)
def test_arguments_that_make_no_sense(endpoint: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        mertd.subscribe(endpoint, **options)


@pytest.mark.slow
def test_a_bus_that_is_not_there_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    bus = Cluster()
    try:
        published = Publisher(bus)
        with subscribe(published, resume={}) as subscriber:
            assert subscriber.receive(1.0) is None
            bus.nodes[0].start()
            bus.wait_ready()
            assert subscriber.receive(2.5) is None  # there is no stream
            published.make()
            published.publish(embedding(0))
            assert seqs(take(subscriber, 1)) == [("studio", "room", 0, 0)]
    finally:
        bus.close()
    said = [record.message for record in caplog.records]
    assert len([one for one in said if "connection refused" in one]) == 1
    assert len([one for one in said if "has no stream" in one]) == 1


@pytest.mark.slow
def test_what_was_killed_is_read_from_when_it_is_back() -> None:
    with Cluster() as bus, Publisher(bus) as published:
        with subscribe(published, resume={}) as subscriber:
            for n in range(3):
                published.publish(embedding(2 * n))
                published.publish(embedding(2 * n + 1))
                assert [r.message.seq for r in take(subscriber, 2)] == [2 * n, 2 * n + 1]  # type: ignore[union-attr]
                bus.nodes[0].kill()
                bus.nodes[0].start()
                bus.wait_ready()
            assert subscriber.lost == 0


USERS = """
authorization { users: [
  { user: relay, password: r }
  { user: lamps, password: l, permissions: {
    publish: ["$JS.API.STREAM.INFO.mertd", "$JS.API.CONSUMER.CREATE.mertd.>", "$JS.API.CONSUMER.MSG.NEXT.mertd.>",
      "$JS.API.CONSUMER.DELETE.mertd.>"]
    subscribe: ["_INBOX.>"] } }
  { user: nobody, password: n, permissions: { publish: ["nothing"], subscribe: ["_INBOX.>"] } }
] }
"""


@pytest.mark.slow
def test_a_user_who_may_only_read_reads_and_who_may_not_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """With the rights that docs/bus.md names."""
    page = (Path(__file__).parents[2] / "docs" / "bus.md").read_text(encoding="utf-8")
    rights = re.findall(r'"(\$JS[^"]+)"', USERS)
    assert len(rights) == 4
    assert all(f"`{right}`" in page for right in rights)
    with Cluster(extra=USERS) as bus:
        host = bus.url().removeprefix("nats://")
        relay = f"nats://relay:r@{host}"
        published = Publisher(bus, relay, name="mertd")
        with published:
            published.publish(embedding(0))
            with mertd.subscribe(f"nats://lamps:l@{host}", resume={}) as subscriber:
                found = subscriber.receive(PATIENCE_S)
            assert found is not None
            wait_until(lambda: published.consumers() == [], PATIENCE_S, lambda: "its consumer stays")
            with mertd.subscribe(f"nats://nobody:n@{host}", resume={}) as subscriber:
                said = "does not let this client read"
                wait_until(lambda: subscriber.receive(0.1) is None and said in caplog.text, PATIENCE_S, lambda: caplog.text)
            with mertd.subscribe(f"nats://lamps:wrong@{host}", resume={}) as subscriber:
                said = "refuses this client: user lamps with this password is not accepted"
                wait_until(lambda: subscriber.receive(0.1) is None and said in caplog.text, PATIENCE_S, lambda: caplog.text)
