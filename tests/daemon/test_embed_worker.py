"""The embed worker: what it is given, how long it may take, and what follows when it dies. No process, virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.scripted_daemon import HOP, WINDOW, ScriptedDaemon
from daemon.simulation import MODEL
from mertd.daemon.embed_worker import BOUNDS, FIRST_BATCH_S, MIN_PATIENCE_S, PATIENCE_FACTOR, patience_s
from mertd.embed.messages import Failed, Ready, Trying
from mertd.embed.process import HEARTBEAT_S
from mertd.processes.health import CRASH_LIMIT
from mertd.wire import Event
from virtual_time import run


def test_patience_follows_experience() -> None:
    assert patience_s(deque(), 8) == FIRST_BATCH_S, "nothing is known yet: it may have to compile, on a slow machine"
    assert patience_s(deque([0.01, 0.02]), 1) == MIN_PATIENCE_S, "a fast one gets time for the machine to be busy"
    assert patience_s(deque([3.0, 5.0, 4.0]), 1) == 5 * PATIENCE_FACTOR
    assert patience_s(deque([3.0, 5.0, 4.0]), 8) == 8 * 5 * PATIENCE_FACTOR


@given(st.lists(st.floats(0.001, 1_000), min_size=1, max_size=32), st.integers(1, 8))
def test_a_batch_that_takes_as_long_as_any_before_is_never_a_hang(took: list[float], windows: int) -> None:
    assert patience_s(deque(took), windows) >= max(MIN_PATIENCE_S, 5 * max(took) * windows)


def test_hearts_beat_often_enough_for_the_bounds() -> None:
    assert 2 * HEARTBEAT_S < BOUNDS.suspect_s < BOUNDS.silent_s < BOUNDS.opening_s < BOUNDS.ready_s


def play(story: Callable[[ScriptedDaemon], Coroutine[Any, Any, None]]) -> ScriptedDaemon:
    """Let a story happen to the worker of a daemon whose only source is open and whose model is still loading."""

    async def all_of_it() -> ScriptedDaemon:
        daemon = ScriptedDaemon("device:x?name=room")
        await daemon.opened("room")
        daemon.published.clear()
        await story(daemon)
        await daemon.close()
        return daemon

    return run(all_of_it())


async def watch(daemon: ScriptedDaemon) -> None:
    """Let a quarter of a second pass, in which the process reports that it is alive."""
    daemon.model.run.beat()
    daemon.worker.process.watch()
    await asyncio.sleep(0.25)


async def crash(daemon: ScriptedDaemon, how: str = "was ended by SIGABRT") -> None:
    """The process dies, and the next one starts."""
    runs = len(daemon.model.runs)
    daemon.model.run.end(how)
    while len(daemon.model.runs) == runs and not daemon.state.stop_asked:
        await asyncio.sleep(0.1)


def test_nothing_is_submitted_before_the_model_is_ready_and_one_batch_at_a_time_then() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        daemon.wrote("room", 2 * WINDOW)
        assert daemon.worker.room == 0
        assert not daemon.batches
        assert daemon.state.phase == "starting"
        await daemon.model_ready()
        assert daemon.state.phase == "running"
        (batch,) = daemon.batches
        assert [request.start for request in batch] == [0, HOP, 2 * HOP]
        daemon.wrote("room", WINDOW)
        assert len(daemon.batches) == 1
        daemon.answer(batch)
        assert [request.start for request in daemon.batches[1]] == [3 * HOP, 4 * HOP]

    play(story)


def test_a_gpu_gets_the_next_batches_while_it_computes_once_it_has_answered() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready(batches=3)
        daemon.wrote("room", WINDOW)
        daemon.wrote("room", 2 * HOP)
        assert [len(batch) for batch in daemon.batches] == [1], "the first one is alone"
        daemon.answer(daemon.batches[0])
        assert [len(batch) for batch in daemon.batches] == [1, 2]
        for sizes in ([1, 2, 1], [1, 2, 1, 1], [1, 2, 1, 1]):  # three at most
            daemon.wrote("room", HOP)
            assert [len(batch) for batch in daemon.batches] == sizes
        for number in range(1, 5):
            daemon.answer(daemon.batches[number])
        daemon.wrote("room", 0)

    assert play(story).embedded("room") == [HOP * number for number in range(6)]


def test_after_a_death_batches_are_given_alone_until_one_is_answered() -> None:
    """Else what was given together with a window that kills the process would be given up with it."""

    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready(batches=3)
        daemon.wrote("room", WINDOW)
        daemon.answer(daemon.batches[0])
        daemon.wrote("room", 6 * HOP)
        assert [len(batch) for batch in daemon.batches] == [1, 4, 2]
        await crash(daemon)
        await daemon.model_ready(batches=3)
        assert [[request.start for request in batch] for batch in daemon.batches] == [[HOP * n for n in range(1, 5)]]
        await crash(daemon)
        assert daemon.events("room").count("skipped") == 4, "those four have been there twice"
        await daemon.model_ready(batches=3)
        assert [[request.start for request in batch] for batch in daemon.batches] == [[HOP * 5, HOP * 6]]
        daemon.answer(daemon.batches[0])
        daemon.wrote("room", 0)

    assert play(story).embedded("room") == [0, HOP * 5, HOP * 6]


def test_each_batch_has_its_own_time() -> None:
    """It begins when the one before is answered."""

    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready(batches=2)
        daemon.wrote("room", WINDOW)
        daemon.answer(daemon.batches[0])
        runs = len(daemon.model.runs)

        async def pass_(seconds: float) -> None:
            for _ in range(round(seconds / 0.25)):
                await watch(daemon)

        daemon.wrote("room", HOP)
        await pass_(MIN_PATIENCE_S - 2)
        daemon.wrote("room", HOP)
        assert len(daemon.batches) == 3, "given while the one before is computed"
        daemon.answer(daemon.batches[1])
        await pass_(MIN_PATIENCE_S - 2)
        assert len(daemon.model.runs) == runs, "no batch has taken too long"
        daemon.wrote("room", HOP)
        await pass_(4)
        assert len(daemon.model.runs) == runs + 1, "what was given meanwhile did not extend its time"

    play(story)


def test_a_model_that_says_why_it_cannot_start_stops_the_daemon() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        daemon.model.run.report(Trying("mlx", ("onnx",)))
        daemon.model.run.report(Failed("these are not MERT's weights", 3))
        await crash(daemon, "ended unexpectedly with status 0")

    failure = play(story).state.failure
    assert str(failure) == "these are not MERT's weights"


def test_a_model_that_dies_before_anything_else_can_be_tried_stops_the_daemon() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await crash(daemon, "was ended by SIGKILL")

    assert str(play(story).state.failure) == "embed process was ended by SIGKILL"


def test_a_backend_that_crashes_makes_way_for_the_next_one() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        for _ in range(CRASH_LIMIT):
            assert daemon.model.run.args[0].excluded == {}
            daemon.model.run.report(Trying("mlx", ("onnx",)))
            await crash(daemon)
        reason = f"its process died {CRASH_LIMIT} times in a row; the last time: embed process was ended by SIGABRT"
        assert daemon.model.run.args[0].excluded == {"mlx": reason}
        daemon.model.run.report(Ready(replace(MODEL, rejected={"mlx": reason}), 4))

    daemon = play(story)
    assert daemon.state.failure is None
    assert daemon.detail("room", "backend_changed")["backend"] == "numpy"
    assert "failed" not in [m.detail["state"] for m in daemon.published if isinstance(m, Event) and m.event == "health"]


def test_a_backend_without_alternative_is_tried_again_and_again() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready()
        for _ in range(10):
            daemon.model.run.report(Trying("numpy", ()))
            await crash(daemon)
        assert daemon.worker.process.restarts == 10

    daemon = play(story)
    assert daemon.state.failure is None
    assert daemon.detail("room", "health")["state"] == "failed"


def test_a_start_that_the_system_refuses_is_not_the_fault_of_the_backend() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        daemon.model.run.report(Trying("mlx", ("onnx",)))
        await daemon.model_ready()
        daemon.model.refusals = 6
        await crash(daemon)
        assert daemon.model.run.args[0].excluded == {}

    assert play(story).state.failure is None


def test_a_window_of_which_the_process_dies_twice_is_given_up_and_the_next_is_embedded() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        daemon.wrote("room", WINDOW)
        for _ in range(2):
            await daemon.model_ready()
            await crash(daemon)
        assert daemon.detail("room", "skipped")["reason"] == "failed"
        daemon.wrote("room", HOP)
        await daemon.model_ready()
        daemon.answer(daemon.batches[0])
        daemon.wrote("room", 0)

    assert play(story).embedded("room") == [HOP]


def test_a_batch_is_waited_for_as_long_as_experience_says() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready()
        daemon.wrote("room", WINDOW)
        began, runs = asyncio.get_running_loop().time(), len(daemon.model.runs)
        while len(daemon.model.runs) == runs:
            await watch(daemon)
        assert asyncio.get_running_loop().time() - began == pytest.approx(FIRST_BATCH_S, abs=1)

    play(story)


def test_nothing_is_submitted_to_a_worker_that_stops() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.model_ready()
        stopping = asyncio.create_task(daemon.worker.stop())
        await asyncio.sleep(0)
        daemon.wrote("room", WINDOW)
        await stopping
        assert not daemon.batches

    play(story)
