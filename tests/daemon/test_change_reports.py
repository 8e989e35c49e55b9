"""What the supervisor believes of what the process that remembers reports, and what it publishes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from daemon.scripted_daemon import WINDOW, ScriptedDaemon
from mertd.daemon.change_reports import PATIENCE_S, ChangeReports
from mertd.daemon.companion import Companion
from mertd.wire import Event
from processes.scripted_run import ScriptedSpawn
from virtual_time import run

DETAIL = {"bound_ns": 7, "strength": 0.5}


def event(**changes: Any) -> tuple[Any, ...]:
    facts: dict[str, Any] = {"name": "change", "epoch": 0, "index": 600, "time_ns": 25, "detail": DETAIL}
    return tuple({**facts, **changes}.values())


class Scene:
    """A daemon with one stream of which a few windows were embedded, and the process that remembers."""

    async def begin(self) -> None:
        self.daemon = daemon = ScriptedDaemon("device:x?name=room")
        self.spawn = ScriptedSpawn(obeys=str)
        self.reports = ChangeReports(daemon.streams)
        self.companion = Companion("memory", "none", lambda: (dict(self.reports.told),), self.reports.reported, self.spawn)
        self.reports.attach(self.companion)
        await daemon.opened("room")
        await daemon.model_ready()
        for _ in range(4):
            daemon.wrote("room", WINDOW)
            while daemon.batches:
                batch = daemon.batches[-1]
                daemon.answer(batch)
                if daemon.batches[-1] is batch:
                    break
        daemon.wrote("room", 1)
        assert self.embedded >= 4

    @property
    def embedded(self) -> int:
        return self.daemon.streams["room"].timeline.counters["embedded"]

    @property
    def published(self) -> list[Event]:
        return [one for one in self.daemon.published if isinstance(one, Event) and one.event in ("change", "return")]

    def report(self, *report: Any) -> None:
        self.reports.reported(report)


def test_changes_are_published_once_in_the_streams_own_numbering() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.begin()
        scene.report("changes", "room", 1, [event(), event(name="return", detail={"similarity": 0.9})])
        scene.report("changes", "room", 1, [event()])
        scene.report("changes", "room", 0, [event()])
        scene.report("changes", "room", 3, [event(index=900)])
        found = scene.published
        assert [(one.event, one.index, one.time_ns, one.epoch) for one in found] == [
            ("change", 600, 25, 0),
            ("return", 600, 25, 0),
            ("change", 900, 25, 0),
        ]
        assert found[0].detail == DETAIL
        events = [one for one in scene.daemon.published if isinstance(one, Event)]
        assert [one.seq for one in events] == list(range(len(events)))
        assert scene.reports.told == {"room": 3}

    run(story())


@pytest.mark.parametrize(
    "report",
    [
        ("changes", "hall", 1, [event()]),
        ("changes", "room", 99, [event()]),
        ("changes", "room", -1, [event()]),
        ("changes", "room", 1, [event(name="stopping")]),
        ("changes", "room", 1, [event(index=10**9)]),
        ("changes", "room", 1, [event(index=-1)]),
        ("changes", "room", 1, [event(epoch=1)]),
        ("changes", "room", 1, [event(time_ns=1 << 63)]),
        ("changes", "room", 1, [event(detail=None)]),
        ("changes", "room", 1, ["nonsense"]),
        ("changes", "room", 1),
        ("changes", 1, "room", []),
        ("through", "x"),
        ("through", 5),
        None,
    ],
)
def test_what_cannot_be_is_not_published(report: Any) -> None:
    async def story() -> None:
        scene = Scene()
        await scene.begin()
        scene.reports.reported(report)
        assert scene.published == []

    run(story())


def test_a_window_has_two_events_at_most_and_they_are_cut_to_size() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.begin()
        scene.report("changes", "room", 1, [event(detail={"text": "x" * 10_000_000})] * 1_000)
        assert len(scene.published) == 2
        assert all(len(str(one.detail)) < 300_000 for one in scene.published)

    run(story())


@pytest.mark.parametrize("answers", [True, False])
def test_at_the_end_it_is_waited_for_but_not_for_long(answers: bool) -> None:
    async def story() -> None:
        scene = Scene()
        await scene.begin()
        scene.companion.process.start()
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        settling = asyncio.create_task(scene.reports.settle())
        await asyncio.sleep(0)
        request, number, ends = scene.spawn.run.sent[-1]
        assert (request, ends) == ("through", {"room": scene.embedded})
        if answers:
            scene.report("changes", "room", 1, [event()])
            scene.report("through", number)
        await settling
        assert asyncio.get_running_loop().time() - began == (0 if answers else PATIENCE_S)
        scene.report("changes", "room", 2, [event()])
        assert len(scene.published) == answers, "after that, nothing more is published"
        await scene.companion.stop()

    run(story())


def test_without_such_a_process_nothing_is_waited_for() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.begin()
        await ChangeReports(scene.daemon.streams).settle()
        await scene.reports.settle()
        assert asyncio.get_running_loop().time() == 0

    run(story())


def test_a_process_that_is_started_again_is_told_what_was_published() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.begin()
        assert scene.companion.arguments() == ({},)
        scene.report("changes", "room", 2, [event()])
        assert scene.companion.arguments() == ({"room": 2},)

    run(story())
