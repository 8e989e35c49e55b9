"""Requests of clients, without a socket or a process: what is refused, and what becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.scripted_daemon import HOP, WINDOW, ScriptedDaemon
from daemon.simulation import BOOT
from mertd.daemon.requests import KEYS
from mertd.errors import WireError
from mertd.stream.server.history import Page
from mertd.vocabulary import RequestName
from mertd.wire import Embedding, Event, Message, Status, decode
from virtual_time import run

ROOM = "device:x?name=room"
HALL = "device:y?name=hall"


def play(story: Callable[[ScriptedDaemon], Coroutine[Any, Any, None]], *addresses: str) -> ScriptedDaemon:
    """Let a story happen to a daemon whose sources are open."""

    async def all_of_it() -> ScriptedDaemon:
        daemon = ScriptedDaemon(*(addresses or (ROOM,)))
        for name in daemon.streams:
            await daemon.opened(name)
        daemon.published.clear()
        await story(daemon)
        await daemon.close()
        return daemon

    return run(all_of_it())


async def ask(daemon: ScriptedDaemon, request: str, **keys: Any) -> list[Message]:
    """The messages in the reply."""
    reply = daemon.requests.answer({"request": request, **keys})
    page = await reply if inspect.isawaitable(reply) else reply
    assert isinstance(page, Page)
    return [decode(frames) for frames in page.messages]


def test_every_request_has_its_keys() -> None:
    assert set(KEYS) == set(RequestName)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "unknown request None; choose one of status, history"),
        ({"request": 3}, "unknown request 3"),
        ({"request": "stats"}, r"did you mean 'status' or 'set'\?"),
        ({"request": "status", "stream": "room"}, "status has no 'stream'"),
        ({"request": "now", "strem": "room"}, r"now has no 'strem'; did you mean 'stream'\?"),
        ({"request": "now"}, "stream: not given; choose one of room, hall"),
        ({"request": "now", "stream": "cellar"}, "no stream 'cellar'; choose one of room, hall"),
        ({"request": "now", "stream": 3}, "stream is 3; expected text"),
        ({"request": "now", "stream": "room"}, "no window of room can be embedded now: 1000 samples are still missing"),
        ({"request": "resume", "stream": "room"}, "room is listening"),
        ({"request": "set"}, "set needs hop, in seconds, or gate, in dBFS"),
        ({"request": "set", "hop": 0.1}, "hop 0.1 is out of range; choose 0.25 to 3600 seconds"),
        ({"request": "set", "hop": True}, "hop is True; expected a number"),
        ({"request": "set", "hop": float("nan")}, "hop is nan; expected a number"),
        ({"request": "set", "gate": 1}, "gate 1 is out of range; choose at most 0 dBFS"),
        ({"request": "set", "hop": 60.0}, "a hop of 1440000 samples does not fit"),
        ({"request": "history", "stream": "room"}, "first is None; expected a whole number"),
        ({"request": "history", "last": 3, "end": 1}, "last and end cannot be combined"),
        ({"request": "history", "since": 3, "first": 1}, "since and first cannot be combined"),
        ({"request": "history", "since": "2h", "stream": "room"}, "since is '2h'; expected a whole number"),
        ({"request": "history", "last": 3, "kind": "status"}, "kind 'status' has no history; choose embedding or event"),
        ({"request": "history", "last": 3, "stream": "cellar"}, "no stream 'cellar'"),
        ({"request": "history", "first": 0, "stream": "room", "boot": b"x"}, "that run of the daemon is over"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(request_: dict[str, Any], says: str) -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        with pytest.raises((WireError, ValueError), match=says):
            await ask(daemon, **{"request": None, **request_})

    assert not play(story, ROOM, HALL).published, "and nothing has changed"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9)


@given(st.dictionaries(st.sampled_from(["request", "stream", "hop", "gate", "last", "first", "end", "boot", "kind"]), VALUES))
def test_whatever_is_asked_is_answered_or_refused(request_: dict[str, Any]) -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        with contextlib.suppress(WireError, ValueError):
            messages = await ask(daemon, **{"request": None, **request_})
            assert all(isinstance(message, Embedding | Event | Status) for message in messages)

    play(story)


def test_status() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        assert [type(message) for message in await ask(daemon, "status")] == [Status]

    play(story)


def test_shutdown_stops_the_daemon_after_the_answer() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        assert [type(message) for message in await ask(daemon, "shutdown")] == [Status]
        assert daemon.state.stop_asked
        assert daemon.state.reason == "asked to over the control socket"

    play(story)


def test_set_answers_with_the_events_that_it_caused() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        both = await ask(daemon, "set", gate=-60)
        assert [(m.stream, m.event, dict(m.detail)) for m in both if isinstance(m, Event)] == [
            (name, "changed", {"gate_dbfs": -60.0}) for name in ("room", "hall")
        ]
        one = await ask(daemon, "set", gate=-50, stream="hall")
        assert [m.stream for m in one if isinstance(m, Event)] == ["hall"]

    play(story, ROOM, HALL)


def test_pause_and_resume() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        (paused,) = await ask(daemon, "pause")
        assert isinstance(paused, Event)
        assert (paused.event, daemon.streams["room"].state) == ("paused", "paused")
        with pytest.raises(WireError, match="room is paused"):
            await ask(daemon, "now")
        await ask(daemon, "resume")
        assert daemon.streams["room"].state == "opening"

    play(story)


def test_now_waits_for_the_vector_of_the_newest_window() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready()
        daemon.wrote("room", WINDOW + 100)
        daemon.answer(daemon.batches[0])
        daemon.wrote("room", 0)
        asking = asyncio.create_task(ask(daemon, "now"))
        await asyncio.sleep(0)
        batch = daemon.batches[1]
        assert [(request.start, request.end) for request in batch] == [(100, WINDOW + 100)]
        assert not asking.done()
        daemon.answer(batch)
        daemon.wrote("room", 0)
        (found,) = await asking
        assert isinstance(found, Embedding)
        assert found.window.start == 100
        assert not daemon.requests._waiting

    play(story)


def test_now_finds_what_is_already_done() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready()
        daemon.wrote("room", WINDOW)
        daemon.answer(daemon.batches[0])
        daemon.wrote("room", 0)
        (found,) = await ask(daemon, "now")
        assert isinstance(found, Embedding)
        assert found.window.end == WINDOW
        assert len(daemon.batches) == 1

    play(story)


def test_now_tells_that_the_window_was_lost() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        daemon.wrote("room", WINDOW)
        asking = asyncio.create_task(ask(daemon, "now"))
        await asyncio.sleep(0)
        daemon.wrote("room", 4 * WINDOW)  # the model is never ready, and the ring is full
        (found,) = await asking
        assert isinstance(found, Event)
        assert (found.event, found.detail["reason"]) == ("skipped", "overwritten")

    play(story)


def test_a_client_that_does_not_wait_leaves_nothing_behind() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        daemon.wrote("room", WINDOW + 1)
        asking = asyncio.create_task(ask(daemon, "now"))
        await asyncio.sleep(0)
        assert daemon.requests._waiting
        asking.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not daemon.requests._waiting

    play(story)


def test_history() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready()
        for _ in range(3):
            daemon.wrote("room", WINDOW)
            daemon.answer(daemon.batches[-1])
        daemon.wrote("room", 0)
        starts = [m.window.start for m in daemon.published if isinstance(m, Embedding)]
        assert len(starts) == 1 + 2 * (2 * WINDOW // (2 * HOP))
        last = await ask(daemon, "history", last=2)
        assert [m.window.start for m in last if isinstance(m, Embedding)] == starts[-2:]
        assert all(isinstance(m, Embedding) and m.replay for m in last)
        between = await ask(daemon, "history", first=1, end=3, boot=BOOT)
        assert [m.seq for m in between if isinstance(m, Embedding)] == [1, 2]
        since = await ask(daemon, "history", since=between[1].time.start_ns)  # type: ignore[union-attr]
        assert [m.seq for m in since if isinstance(m, Embedding)] == list(range(2, len(starts)))
        assert await ask(daemon, "history", since=0, boot=BOOT) == [], "there is no run after this one"
        assert len(await ask(daemon, "history", since=0, boot=b"one before")) == len(starts)
        events = await ask(daemon, "history", kind="event", last=1)
        assert [type(m) for m in events] == [Event]

    play(story)
