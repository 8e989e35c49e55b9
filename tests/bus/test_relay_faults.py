"""What goes wrong between a daemon and its bus: one clear line each, nothing lost, nothing twice, and it goes on by itself."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import StreamConfig

from bus.cluster import Cluster, Fault
from bus.made_daemon import MadeDaemon, made_daemon
from bus.relayed import on_bus, relay, relaying, until
from bus.secured import Operator
from mertd.bus import bus_writer, nats_client
from mertd.bus.bus_access import BusAccess, parse_servers
from mertd.bus.bus_holes import BusHole, as_hole
from mertd.bus.bus_stream import StreamWish
from mertd.bus.message_id import HEADER, BusId, HoleId, MessageId
from mertd.wire import decode

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other sooner than for a user."""
    monkeypatch.setattr(bus_writer, "MAX_WAIT_S", 0.5)


@pytest.fixture
def made() -> Iterator[MadeDaemon]:
    with made_daemon(f"d{uuid.uuid4().hex[:8]}") as one:
        yield one


def make_stream(url: str, **settings: Any) -> None:
    """Make a stream as an operator would."""
    asyncio.run(_with_jetstream(url, lambda js: js.add_stream(StreamConfig(**settings))))


def alter_stream(url: str, name: str, **settings: Any) -> None:
    async def alter(jetstream: Any) -> None:
        found = (await jetstream.stream_info(name)).config
        await jetstream.update_stream(found.evolve(**settings))

    asyncio.run(_with_jetstream(url, alter))


async def _with_jetstream(url: str, action: Any) -> None:
    client = await nats.connect(url, allow_reconnect=False)
    try:
        await action(client.jetstream())
    finally:
        await client.close()


def identities(found: list[tuple[str, BusId, bytes]], boot: bytes, kind: str, stream: str) -> Iterator[tuple[BusId, bytes]]:
    """What a stream holds of one kind and stream of a run."""
    for _, identity, payload in found:
        if (identity.boot, identity.kind, identity.stream) == (boot, kind, stream):
            yield identity, payload


def holes_in(found: list[tuple[str, BusId, bytes]]) -> list[BusHole]:
    """The holes that a stream announces, as their events say."""
    events = [decode([b"event/room/", payload]) for _, identity, payload in found if isinstance(identity, HoleId)]
    return [hole for message in events if (hole := as_hole(message)) is not None]


def assert_all_once_in_order(made: MadeDaemon, url: str, stream: str) -> None:
    """Everything that the daemon numbered is there, in order, byte for byte, but for what is announced as a hole."""
    found = on_bus(url, stream)
    for (boot, kind, name), sent in made.sent.items():
        there = list(identities(found, boot, kind, name))
        gone = {seq for one, _ in there if isinstance(one, HoleId) for seq in range(one.first, one.end)}
        kept = [(one.seq, payload[:-1]) for one, payload in there if isinstance(one, MessageId)]
        expected = [(seq, sent[seq][1][:-1]) for seq in range(len(sent)) if seq not in gone]
        assert [seq for seq, _ in kept] == [seq for seq, _ in expected], (kind, name)
        assert kept == expected, "but for `replay`, the last byte, they are as they were"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the relay has said."""
    said = [record for record in caplog.records if record.name.startswith("mertd.bus") and record.levelno >= logging.ERROR]
    return [record.getMessage() for record in said]


@pytest.mark.parametrize("atomic", [True, False])
def test_kills_of_server_and_relay_and_a_long_outage(made: MadeDaemon, tmp_path: Path, atomic: bool) -> None:
    with Cluster() as bus:
        if not atomic:
            make_stream(bus.url(), name="all", subjects=["mertd.>"], num_replicas=1)
        told = relaying(made, bus.url(), "all", tmp_path)
        with relay(told) as one:
            made.send("event")
            for _ in range(50):
                made.send()
            until(made, lambda: one.stored == 51)
            bus.nodes[0].kill()
            for number in range(300):  # some get to the relay, some only into the history
                made.send(heard=number < 100)
            made.send("event")
            made.restart()
            made.send("event")
            for _ in range(30):
                made.send(stream="hall")
            bus.nodes[0].start()
            bus.wait_ready()
            until(made, lambda: one.stored == 51 + 301 + 31)
        assert_all_once_in_order(made, bus.url(), "all")
        (tmp_path / "cursor").unlink()  # as if nothing was known: what the bus has tells
        with relay(told) as another:
            made.send()
            until(made, lambda: another.stored == 1)
        found = [one for _, one, _ in on_bus(bus.url(), "all") if one.boot == made.boot]
        assert len(set(found)) == len(found)


@pytest.mark.parametrize("atomic", [True, False])
def test_an_identity_that_another_client_has_used_loses_nothing(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture, atomic: bool
) -> None:
    """The server compares identities across subjects, so a client that may write a subject of its own can use any."""
    with Cluster() as bus:
        make_stream(bus.url(), name="all", subjects=["mertd.>"], duplicate_window=3.0, allow_atomic=atomic)
        forged = str(MessageId(made.boot, "embedding", "room", 1))
        asyncio.run(
            _with_jetstream(bus.url(), lambda js: js.publish("mertd.another.room.embedding", b"", headers={HEADER: forged}))
        )
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            for _ in range(4):
                made.send()
            until(made, lambda: one.stored == 4)
        assert any("another client uses identities of this daemon" in line for line in errors(caplog))
        there = [identity.seq for subject, identity, _ in on_bus(bus.url(), "all") if made.name in subject]
        assert there == [0, 1, 2, 3]


def test_acknowledgements_that_are_lost_store_nothing_twice(
    made: MadeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_writer, "STORED_S", 0.5)
    monkeypatch.setattr(nats_client, "CONNECT_S", 1.0)
    with Cluster(1, links=True) as bus:
        told = relaying(made, bus.url("relay"), "all", tmp_path, wish=StreamWish("all", create=True, max_age_s=3600.0))
        with relay(told) as one:
            for turn in range(4):
                for _ in range(40):
                    made.send()
                bus.client("relay").drop((Fault.STALL, Fault.REFUSE)[turn % 2])
                made.send("event")
                until(made, lambda: one.complaint)
                bus.heal()
                until(made, lambda: not one.complaint)
            until(made, lambda: one.received == 4 * 41)
            until(made, lambda: len(on_bus(bus.url(), "all")) == 4 * 41)
        assert_all_once_in_order(made, bus.url(), "all")


def test_what_is_gone_for_good_is_announced(made: MadeDaemon, tmp_path: Path) -> None:
    with Cluster() as bus:
        told = relaying(made, bus.url(), "all", tmp_path)
        with relay(told) as one:
            made.send("event")
            made.send()
            until(made, lambda: one.stored == 2)
            for _ in range(10):
                made.send(heard=False)
            made.forget("embedding", "room", 3, 8)
            made.send()
            until(made, lambda: one.stored == 2 + 6 + 1)
            made.send(heard=False)
            made.send(heard=False)
            made.forget("embedding", "room", 12, 14)
            until(made, lambda: one.stored == 2 + 6 + 1 + 1)  # the status alone shows it
            made.send()
            until(made, lambda: one.stored == 2 + 6 + 1 + 1 + 1)
        assert one.lost == 7
        holes = holes_in(on_bus(bus.url(), "all"))
        assert [(hole.kind, hole.first, hole.end, hole.reason) for hole in holes] == [
            ("embedding", 3, 8, "missed"),
            ("embedding", 12, 14, "missed"),
        ]
        assert_all_once_in_order(made, bus.url(), "all")
        with relay(told) as again:
            made.send()
            until(made, lambda: again.stored == 1)


def test_a_relay_without_its_place_continues_behind_what_the_bus_has(made: MadeDaemon, tmp_path: Path) -> None:
    with Cluster() as bus:
        told = relaying(made, bus.url(), "all", tmp_path)
        with relay(told) as one:
            for stream in ("room", "hall.1"):
                made.send("event", stream)
                made.send("embedding", stream)
            made.restart()
            made.send()
            until(made, lambda: one.stored == 5)
        made.send("event")
        for _ in range(3):
            made.send()
        made.restart()
        made.send(stream="new")
        with relay(replace(told, cursor=tmp_path / "another", since_ns=None)) as another:
            until(made, lambda: another.received == 4)
            made.send()
            until(made, lambda: another.stored == 5)
        assert another._writer
        assert not another._writer.skipped, "nothing is sent that is there"
        made.sent.pop((made.boot, "embedding", "new"))  # a stream that is new, from before the relay was started
        assert_all_once_in_order(made, bus.url(), "all")


def test_a_full_stream_is_said_once_and_filled_when_there_is_room(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster() as bus:
        make_stream(bus.url(), name="all", subjects=["mertd.>"], discard="new", max_bytes=50_000, allow_atomic=True)
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            for _ in range(40):
                made.send()
            until(made, lambda: errors(caplog))
            until(made, lambda: len(errors(caplog)) >= 1 and one.received >= 40)
            alter_stream(bus.url(), "all", max_bytes=-1)
            until(made, lambda: one.stored == 40)
        (said,) = errors(caplog)
        assert "maximum bytes exceeded" in said
        assert "raise max_bytes" in said
        assert_all_once_in_order(made, bus.url(), "all")


def test_a_server_without_room(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_writer, "STORED_S", 1.0)  # it does not answer a batch then
    with Cluster(limits="max_file_store: 60KB") as bus:
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            for _ in range(60):
                made.send()
            until(made, lambda: errors(caplog) and one.received >= 60)
        (said,) = errors(caplog)
        assert "raise max_file_store" in said
        found = [identity.seq for _, identity, _ in on_bus(bus.url(), "all") if isinstance(identity, MessageId)]
        assert found == list(range(len(found))), "in order, as many as fit"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"subjects": ["other.>"]}, "leaves out mertd."),
        ({"subjects": ["mertd.>"], "max_msg_size": 1_000}, "raise max_payload of the server, or max_msg_size"),
        ({"subjects": ["mertd.>"], "no_ack": True}, "does not acknowledge"),
    ],
    ids=["subjects", "size", "no_ack"],
)
def test_a_stream_with_other_limits_is_not_altered(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], said: str
) -> None:
    with Cluster() as bus:
        make_stream(bus.url(), name="all", **settings)
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            for _ in range(5):
                made.send()
            until(made, lambda: errors(caplog))
            (line,) = errors(caplog)
            assert said in line
            assert "\n" not in line
            alter_stream(bus.url(), "all", subjects=["mertd.>"], max_msg_size=-1, no_ack=False)
            until(made, lambda: one.stored == 5)
        assert_all_once_in_order(made, bus.url(), "all")


def test_a_stream_that_exists_stays_as_it_is(made: MadeDaemon, tmp_path: Path) -> None:
    """telegraf #17072: an output gives a stream that it finds other subjects."""
    with Cluster() as bus:
        settings = {"subjects": ["mertd.>", "other"], "max_age": 3600.0, "max_msgs": 1_000, "allow_atomic": True}
        make_stream(bus.url(), name="all", **settings)
        with relay(relaying(made, bus.url(), "all", tmp_path, wish=StreamWish("all", create=True, max_age_s=7.0))) as one:
            made.send()
            until(made, lambda: one.stored == 1)

        async def look(jetstream: Any) -> None:
            found = (await jetstream.stream_info("all")).config
            assert {name: getattr(found, name) for name in settings} == settings

        asyncio.run(_with_jetstream(bus.url(), look))


def test_without_create_an_absent_stream_is_waited_for(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster() as bus:
        with relay(relaying(made, bus.url(), "all", tmp_path, wish=StreamWish("all"))) as one:
            made.send()
            until(made, lambda: errors(caplog))
            assert "has no stream all" in errors(caplog)[0]
            assert "--create" in errors(caplog)[0]
            make_stream(bus.url(), name="all", subjects=["mertd.>"])
            until(made, lambda: one.stored == 1)


def test_a_server_without_jetstream_and_none_at_all(made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Cluster(jetstream=False) as bus:
        with relay(relaying(made, bus.url(), "all", tmp_path)):
            made.send()
            until(made, lambda: errors(caplog))
            assert "start nats-server with -js" in errors(caplog)[0]
            bus.nodes[0].kill()
            until(made, lambda: len(errors(caplog)) >= 2)
            assert "connection refused" in errors(caplog)[-1]


def test_a_message_that_is_too_large_leaves_an_announced_hole(made: MadeDaemon, tmp_path: Path) -> None:
    with Cluster() as bus:
        make_stream(bus.url(), name="all", subjects=["mertd.>"], max_msg_size=100_000, allow_atomic=True)
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            made.send("event")
            made.send("event", detail={"text": "x" * 200_000})
            made.send("event")
            until(made, lambda: one.stored == 3)
        found = [identity for _, identity, _ in on_bus(bus.url(), "all")]
        assert found == [
            MessageId(made.boot, "event", "room", 0),
            HoleId(made.boot, "room", "event", 1, 2, 1),
            MessageId(made.boot, "event", "room", 2),
        ]


def test_two_relays_of_one_daemon_store_each_message_once(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster() as bus:
        told = relaying(made, bus.url(), "all", tmp_path)
        with relay(told) as one, relay(replace(told, cursor=tmp_path / "other")) as other:
            for turn in range(20):
                for _ in range(10):
                    made.send()
                made.send("event")
                until(made, lambda turn=turn: min(one.received, other.received) >= 11 * (turn + 1))
            until(made, lambda: len(on_bus(bus.url(), "all")) >= 220)
        assert one.stored + other.stored == 220
        assert not errors(caplog)
        assert_all_once_in_order(made, bus.url(), "all")


def test_credentials_that_expire_are_read_again_when_they_are_renewed(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator()
    file = operator.credentials(tmp_path / "studio.creds", seconds=3)
    with Cluster(extra=operator.configuration) as bus:
        access = BusAccess(parse_servers(bus.url()), credentials=str(file))
        with relay(relaying(made, bus.url(), "all", tmp_path, access=access)) as one:
            made.send()
            until(made, lambda: one.stored == 1)
            until(made, lambda: errors(caplog))
            made.send()
            assert all("studio.creds" in text and "renew" in text for text in errors(caplog)), errors(caplog)
            operator.credentials(file)
            until(made, lambda: one.stored == 2)


def test_a_user_without_the_permission_is_told_so(made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    allowed = '"$JS.API.>", "mertd.other.>"'
    users = f'authorization {{ users: [{{user: me, password: x, permissions: {{publish: [{allowed}], subscribe: [">"]}}}}] }}'
    with Cluster(extra=users) as bus:
        url = bus.url().replace("nats://", "nats://me:x@")
        with relay(relaying(made, url, "all", tmp_path)):
            made.send()
            until(made, lambda: errors(caplog))
        assert "permissions violation for publish" in errors(caplog)[0]
        assert "give this user the permission" in errors(caplog)[0]
