"""A replay with its sockets, in a thread of the test, and clients as users have them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from command_process import PATIENCE_S
from memory.stored import BOOTS
from mertd.daemon.binding import Endpoints
from mertd.errors import EndpointError
from mertd.memory.queries import Selection
from mertd.memory.store import Store
from mertd.replay.pacing import Pace
from mertd.replay.player import Manner, Player
from mertd.replay.remembered_span import RememberedSpan, replayed_boot
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.request import ask, ask_page
from mertd.wire import Embedding, Event, Status, encode
from messages import event
from replay.test_remembered_span import ALL, heard

FAST = Pace(float("inf"))
KINDS = ("embedding", "event")


class NoSignals:
    """Signals belong to the main thread, and a test may not have it."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def replaying(
    folder: Path, monkeypatch: pytest.MonkeyPatch, selection: Selection = ALL, **manner: Any
) -> Iterator[tuple[str, str]]:
    """Replay in a thread. Yields the endpoints; on leaving, the replay must have ended, unless it stays."""
    monkeypatch.setattr("mertd.replay.player.Signals", NoSignals)
    monkeypatch.setattr("mertd.replay.player.FETCHING_S", 0.2)
    bound: SimpleQueue[tuple[str, str]] = SimpleQueue()
    failed: list[BaseException] = []

    async def serve() -> None:
        span = RememberedSpan(folder, selection)
        endpoints = Endpoints("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
        options = Manner(**{"pace": FAST, "waits": True, **manner})
        await Player(span, endpoints, options, lambda *both: bound.put(both)).run()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    control = ""
    try:
        endpoint, control = bound.get(timeout=PATIENCE_S)
        yield endpoint, control
        if manner.get("stays"):
            ask(control, {"request": "shutdown"})
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    except BaseException:
        if thread.is_alive():
            ask(control, {"request": "shutdown"})
        thread.join(PATIENCE_S)
        raise
    if failed:
        raise failed[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs of a daemon, of 1,400 windows and 15 events each, and two holes."""
    with Store(tmp_path) as store:
        for number, boot in enumerate(BOOTS[:3]):
            at_s = 10_000 * number
            messages: list[Embedding | Event] = [
                heard(seq, at_s=at_s + 5 * seq, boot=boot) for seq in range(1_400) if number != 1 or seq not in (3, 4, 900)
            ]
            messages += [event(seq, boot=boot, time_ns=(at_s + 500 * seq) * 10**9) for seq in range(15)]
            store.append(messages)
    return tmp_path


def take(subscriber: Subscriber, count: int) -> list[Embedding | Event]:
    found: list[Embedding | Event] = []
    while len(found) < count:
        received = subscriber.receive(PATIENCE_S)
        assert received is not None, f"only {len(found)} of {count} came"
        assert not isinstance(received.message, Status)
        found.append(received.message)
    return found


@pytest.mark.slow
def test_a_client_that_was_there_first_gets_all_and_the_next_replay_is_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [encode(played.message) for played in RememberedSpan(folder, ALL).messages()]
    assert len(expected) == 3 * 1_415 - 3
    for _ in range(2):
        with replaying(folder, monkeypatch) as (endpoint, control):
            with Subscriber(endpoint, kinds=KINDS, control=control) as subscriber:
                found = take(subscriber, len(expected))
                assert subscriber.lost == 3, "holes of the memory"
        assert [encode(message) for message in found] == expected


def test_a_client_that_comes_late_or_sleeps_gets_it_from_the_history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    selection = Selection(since_ns=100 * 10**9, until_ns=7_000 * 10**9)
    span = RememberedSpan(folder, selection)
    expected = [(m.kind, m.seq) for m in (played.message for played in span.messages())]
    with replaying(folder, monkeypatch, selection, waits=False, stays=True) as (endpoint, control):
        with Subscriber(endpoint, kinds=KINDS, control=control, last=5_000) as subscriber:
            found = take(subscriber, len(expected))
            assert subscriber.lost == 0
        assert sorted((m.kind, m.seq) for m in found) == sorted(expected)
        assert {m.boot for m in found} == {replayed_boot(BOOTS[0])}
        page = ask_page(control, {"request": "history", "first": 25, "boot": replayed_boot(BOOTS[0]), "stream": "room"})
        assert [message.seq for message in page.messages if isinstance(message, Embedding)] == list(range(25, 281))
        assert page.more
        for request, said in (
            ({"request": "pause"}, "a replay of a memory"),
            ({"request": "history", "first": 0, "boot": BOOTS[0]}, "not in this replay"),
            ({"request": "history", "first": 0, "stream": "hall"}, "choose one of room"),
            ({"request": "history", "begin": 0}, "no 'begin'"),
        ):
            with pytest.raises(EndpointError, match=said):
                ask(control, request)
        (status,) = ask(control, {"request": "status"})
        assert isinstance(status, Status)
        assert (status.daemon, status.phase) == ("replay:studio", "replaying")
        assert status.streams["room"]["embedded"] == 1_400
        assert status.streams["room"]["state"] == "ended"


def test_a_client_with_a_cursor_can_be_developed_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    selection = Selection(since_ns=6_000 * 10**9, until_ns=10_500 * 10**9)  # the end of a run, and the beginning of the next
    expected = [
        (m.boot, m.seq) for m in (p.message for p in RememberedSpan(folder, selection).messages()) if m.kind == "embedding"
    ]
    assert len(expected) == 200 + 98
    with replaying(folder, monkeypatch, selection, waits=False, stays=True) as (endpoint, control):
        found: list[tuple[bytes, int]] = []
        for count in (50, 200, 48):
            with Subscriber(endpoint, control=control, cursor=tmp_path / "cursor", since=6_000 * 10**9) as subscriber:
                found += [(message.boot, message.seq) for message in take(subscriber, count)]
                subscriber.acknowledge()
    assert found == expected
