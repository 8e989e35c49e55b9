"""From the daemon's sockets to a real NATS server: everything, once, in order, byte for byte."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.cluster import Cluster
from bus.made_daemon import MadeDaemon, made_daemon
from bus.relayed import on_bus, relay, relaying, until
from mertd.bus.default_cursor import default_cursor
from mertd.bus.message_id import MessageId


@pytest.fixture
def made() -> Iterator[MadeDaemon]:
    with made_daemon(f"d{uuid.uuid4().hex[:8]}") as one:
        yield one


def prefix(made: MadeDaemon) -> str:
    return f"mertd.{made.name}."


@pytest.fixture(scope="module")
def own_bus() -> Iterator[Cluster]:
    with Cluster() as started:
        yield started


def test_everything_once_in_order_and_unchanged(made: MadeDaemon, own_bus: Cluster, tmp_path: Path) -> None:
    made.send("event")
    for _ in range(700):
        made.send()
    told = relaying(made, own_bus.url(), "all", tmp_path)
    with relay(told) as one:
        until(made, lambda: one.stored == 701)
        made.send()
        made.send("event")
        until(made, lambda: one.stored == 703)
    with relay(told) as another:
        made.send()
        until(made, lambda: another.stored == 1)
    found = on_bus(own_bus.url(), "all")
    for kind, count in (("embedding", 702), ("event", 2)):
        subject = f"{prefix(made)}room.{kind}"
        there = [(identity, payload) for at, identity, payload in found if at == subject]
        assert [identity for identity, _ in there] == [MessageId(made.boot, kind, "room", seq) for seq in range(count)]
        sent = [frames[1][:-1] for frames in made.sent[made.boot, kind, "room"]]
        assert [payload[:-1] for _, payload in there] == sent, "but for `replay`, the last byte, of what came from the history"
    assert len(found) == 704


def test_each_daemon_has_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is started under another name, at the same endpoint, is another one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    places = [default_cursor("tcp://here", daemon, stream) for daemon, stream in (("a", "s"), ("b", "s"), ("a", "t"))]
    assert len(set(places)) == 3
    assert all(place.parent.is_dir() and place.is_relative_to(tmp_path) for place in places)
