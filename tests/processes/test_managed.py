"""The life of a managed process, in virtual time and without a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.processes.health import MAX_AWAY_WAIT_S, Bounds, Change
from mertd.processes.managed import Crashed, Finished, GaveUp, ManagedProcess, Renewed, Verdict
from processes.scripted_run import ScriptedSpawn
from virtual_time import run as run_in_virtual_time

BOUNDS = Bounds(opening_s=20, suspect_s=1, silent_s=2, ready_s=60, proven_s=5)
BYE = "bye"


@dataclass
class ScriptedRole:
    """Keeps what it is told; what an exit means, the test says."""

    verdict: Callable[[str], Verdict] = Crashed
    messages: list[Any] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    bugs: list[BaseException] = field(default_factory=list)
    starts: int = 0

    def arguments(self) -> tuple[Any, ...]:
        self.starts += 1
        return (self.starts,)

    def on_message(self, message: Any) -> None:
        self.messages.append(message)

    def on_exit(self, how: str) -> Verdict:
        self.exits.append(how)
        return self.verdict(how)

    def on_change(self, process: str, change: Change) -> None:
        assert process == "test"
        self.changes.append(str(change.state))

    def on_bug(self, error: BaseException) -> None:
        self.bugs.append(error)


class Stage:
    """A managed process, its role, and the runs that it starts."""

    def __init__(self, verdict: Callable[[str], Verdict] = Crashed) -> None:
        self.role = ScriptedRole(verdict)
        self.spawn = ScriptedSpawn(obeys=str)
        self.process = ManagedProcess("test", BOUNDS, self.role, self.spawn)


def play(story: Callable[[Stage], Coroutine[Any, Any, None]], verdict: Callable[[str], Verdict] = Crashed) -> Stage:
    """Let a story happen to a process that was just started."""

    async def all_of_it() -> Stage:
        stage = Stage(verdict)
        stage.process.start()
        await asyncio.sleep(0)
        await story(stage)
        await stage.process.stop(BYE, 1.0)
        return stage

    return run_in_virtual_time(all_of_it())


def test_a_process_is_started_again_at_once_and_then_after_growing_waits() -> None:
    async def story(stage: Stage) -> None:
        for number in range(6):
            assert stage.spawn.run.args == (number + 1,), "the role says anew what to start"
            assert stage.process.pid == stage.spawn.run.pid
            stage.spawn.run.end("crashed")
            while len(stage.spawn.runs) == number + 1:
                await asyncio.sleep(0.01)

    stage = play(story)
    waits = [after - before for before, after in zip(stage.spawn.starts_s, stage.spawn.starts_s[1:], strict=False)]
    assert waits == pytest.approx([0, 0.5, 1, 2, 3, 3], abs=0.05)
    assert stage.role.changes == ["failed"]
    assert stage.role.exits == ["crashed"] * 6
    assert stage.process.last_error == "crashed"


def test_a_start_that_the_system_refuses_is_a_crash_and_no_loop_spins() -> None:
    """As when there are no descriptors left: back off, say so, and recover when there are."""

    async def story(stage: Stage) -> None:
        stage.spawn.refusals = 12
        stage.spawn.run.end("crashed")
        await asyncio.sleep(60)

    stage = play(story)
    assert len(stage.spawn.starts_s) < 40
    assert stage.spawn.refusals == 0
    assert len(stage.spawn.runs) == 2
    assert stage.role.exits[1:] == ["could not be started: [Errno 24] Too many open files"] * 12
    assert "Too many open files" in stage.process.last_error
    assert stage.process.as_dict["state"] == "failed", "until it works"


@given(st.integers(0, 40), st.floats(0, 600))
def test_a_refused_start_is_repeated_ever_more_rarely(refusals: int, before_s: float) -> None:
    async def story(stage: Stage) -> None:
        await asyncio.sleep(before_s)
        stage.spawn.refusals = refusals
        stage.spawn.run.end("crashed")
        await asyncio.sleep(MAX_AWAY_WAIT_S * (refusals + 2))

    stage = play(story)
    assert len(stage.spawn.runs) == 2, "it recovers"
    waits = [after - before for before, after in zip(stage.spawn.starts_s[1:], stage.spawn.starts_s[2:], strict=False)]
    assert waits == pytest.approx(sorted(waits))
    assert all(0.499 <= wait_s <= MAX_AWAY_WAIT_S + 0.001 for wait_s in waits)


def test_messages_reach_the_role_until_it_is_stopped() -> None:
    async def story(stage: Stage) -> None:
        stage.spawn.run.report("one")
        stopping = asyncio.create_task(stage.process.stop(BYE, 1.0))
        await asyncio.sleep(0)
        stage.spawn.run.report("two")
        await stopping

    stage = play(story)
    assert stage.role.messages == ["one"]
    assert not stage.role.exits, "nothing is asked about an end that was ordered"


def test_a_hanging_process_is_killed_and_replaced() -> None:
    async def story(stage: Stage) -> None:
        stage.process.ready()
        stage.process.worked()
        while len(stage.spawn.runs) < 2:
            stage.process.watch()
            await asyncio.sleep(0.25)

    stage = play(story)
    assert stage.spawn.runs[0].killed
    assert stage.role.exits == ["has hung for 2.2 s"], "why it was killed, not that it was"
    assert stage.role.changes == ["healthy", "suspect", "recovering"]


def test_a_process_that_reports_is_left_alone() -> None:
    async def story(stage: Stage) -> None:
        stage.process.ready()
        for _ in range(1_000):
            stage.spawn.run.beat()
            stage.process.watch()
            await asyncio.sleep(0.25)

    stage = play(story)
    assert len(stage.spawn.runs) == 1
    assert stage.role.changes == ["healthy"]


def test_work_that_is_not_answered() -> None:
    async def story(stage: Stage) -> None:
        stage.process.ready()
        stage.process.asked(10.0)
        while len(stage.spawn.runs) < 2:
            stage.spawn.runs[0].beat()
            stage.process.watch()
            await asyncio.sleep(0.25)

    assert play(story).role.exits == ["has not answered for 10 s"]


@pytest.mark.parametrize(
    ("verdict", "runs", "changes", "last_error"),
    [
        (lambda _: Finished(), 1, ["healthy"], ""),
        (lambda _: GaveUp("no such file"), 1, ["healthy", "failed"], "no such file"),
        (lambda _: Renewed("the next writer"), 2, ["healthy", "recovering"], ""),
        (lambda _: Renewed("makes way", "it crashed"), 2, ["healthy", "recovering"], "it crashed"),
        (lambda _: Crashed("it crashed"), 2, ["healthy", "recovering"], "it crashed"),
    ],
)
def test_what_an_exit_means(verdict: Callable[[str], Verdict], runs: int, changes: list[str], last_error: str) -> None:
    async def story(stage: Stage) -> None:
        stage.process.ready()
        stage.spawn.run.end("over")
        await asyncio.sleep(100)

    stage = play(story, verdict)
    assert len(stage.spawn.runs) == runs
    assert stage.role.changes == changes
    assert stage.process.last_error == last_error


def test_the_log_gets_a_whole_traceback_and_the_event_its_last_line(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        stage.spawn.run.end("Traceback\n  a line\nRuntimeError: a bug")
        await asyncio.sleep(0.1)

    with caplog.at_level(logging.INFO, "mertd"):
        play(story)
    assert "test: Traceback\n  a line\nRuntimeError: a bug" in caplog.messages


@pytest.mark.parametrize("obeys", [True, False])
def test_a_stop_asks_first_and_then_insists(obeys: bool) -> None:
    async def story(stage: Stage) -> None:
        if not obeys:
            stage.spawn.run._obeys = None
        await stage.process.stop(BYE, 1.0)
        assert asyncio.get_running_loop().time() == pytest.approx(0.0 if obeys else 1.0, abs=0.01)

    stage = play(story)
    assert stage.spawn.run.sent == [BYE]
    assert stage.process.pid is None
    assert stage.process.stopped


def test_a_stop_without_a_goodbye_kills_at_once() -> None:
    async def story(stage: Stage) -> None:
        await stage.process.stop(None, 1.0)

    stage = play(story)
    assert stage.spawn.run.killed
    assert not stage.spawn.run.sent


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.6])
def test_a_stop_between_two_runs_starts_nothing(after_s: float) -> None:
    async def story(stage: Stage) -> None:
        stage.spawn.refusals = 100
        stage.spawn.run.end("crashed")
        await asyncio.sleep(after_s)
        await stage.process.stop(BYE, 1.0)
        before = len(stage.spawn.starts_s)
        await asyncio.sleep(100)
        assert len(stage.spawn.starts_s) == before

    play(story)


def test_a_stop_before_the_first_run_starts_nothing() -> None:
    async def story() -> None:
        stage = Stage()
        stage.process.start()
        await stage.process.stop(BYE, 1.0)
        await asyncio.sleep(10)
        assert not stage.spawn.runs

    run_in_virtual_time(story())


def test_two_stops_at_the_same_time() -> None:
    async def story(stage: Stage) -> None:
        stage.spawn.run._obeys = None
        await asyncio.gather(stage.process.stop(BYE, 5.0), stage.process.stop(None, 1.0))

    assert play(story).process.stopped


def test_a_stop_that_is_cancelled_does_not_lose_the_process() -> None:
    async def story(stage: Stage) -> None:
        stage.spawn.run._obeys = None
        first = asyncio.create_task(stage.process.stop(BYE, 5.0))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(1)
        assert not stage.spawn.run.killed
        await stage.process.stop(BYE, 1.0)
        assert stage.spawn.run.killed

    play(story)


def test_a_process_may_be_started_again_after_a_stop_with_a_clean_record() -> None:
    async def story(stage: Stage) -> None:
        for _ in range(2):
            stage.spawn.run.end("crashed")
            await asyncio.sleep(1)
        await stage.process.stop(BYE, 1.0)
        stage.process.start()
        await asyncio.sleep(0)
        assert not stage.process.stopped
        began = asyncio.get_running_loop().time()
        stage.spawn.run.end("crashed")
        await asyncio.sleep(0.01)
        assert stage.spawn.starts_s[-1] == pytest.approx(began, abs=0.01), "the first death again"

    play(story)


def test_a_bug_in_the_role_is_reported_and_does_not_stop_the_stopping() -> None:
    def bug(how: str) -> Verdict:
        raise ZeroDivisionError(how)

    async def story(stage: Stage) -> None:
        stage.spawn.run.end("over")
        await asyncio.sleep(1)

    stage = play(story, bug)
    assert [type(error) for error in stage.role.bugs] == [ZeroDivisionError]
    assert stage.process.stopped
