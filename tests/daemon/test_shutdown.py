"""Nothing that is raised while the daemon stops may stop the stopping."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import mertd.daemon.shutdown
from command_process import PATIENCE_S, STOP_S, Traces, wait_until
from daemon.scripted_daemon import ScriptedDaemon
from daemon.test_supervisor import Stage
from daemon_process import SHORT, TINY
from mertd.capture.reports import Stop
from mertd.daemon.shutdown import STOP_S as PROCESSES_S
from mertd.daemon.shutdown import Shutdown, stop_processes, terminate
from virtual_time import run

STEPS = [
    "say that it stops",
    "publish the last changes",
    "publish that room stops",
    "stop all processes",
    "kill embed",
    "kill capture-room",
    "publish the last status",
    "stop the companions",
    "release the ring of room",
    "close the control socket",
    "close the publisher",
    "close the connections",
    "release the lock",
]
"""All steps of a daemon with one stream called `room`, in their order."""


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(7)])
@pytest.mark.parametrize("awaited", [True, False])
def test_the_steps_behind_one_that_raises_are_taken(
    error: BaseException, awaited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown, taken = Shutdown(), []

    async def fail_later() -> None:
        await asyncio.sleep(1)
        raise error

    def fail() -> None:
        raise error

    async def rest() -> None:
        await asyncio.sleep(1)
        taken.append("rest")

    shutdown.add("begin", lambda: taken.append("begin"))
    shutdown.add("do this", fail_later if awaited else fail)
    shutdown.add("rest", rest)
    shutdown.add("do that", fail)
    shutdown.add("end", lambda: taken.append("end"))
    run(shutdown.run())
    assert taken == ["begin", "rest", "end"]
    assert shutdown.error is error
    assert [record.getMessage() for record in caplog.records] == [
        "stopping: could not do this",
        "stopping: could not do that",
    ]
    assert all(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)


def test_a_process_that_cannot_be_stopped_is_killed_and_so_is_one_that_takes_too_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        daemon = ScriptedDaemon("device:a?name=a", "device:b?name=b", "device:c?name=c")
        await asyncio.sleep(0)
        a, b, c = (daemon.streams[name] for name in "abc")
        runs = [daemon.capture(name) for name in "abc"]

        async def fail() -> None:
            raise ZeroDivisionError("cannot be stopped")

        async def hang() -> None:
            await asyncio.Event().wait()

        began = asyncio.get_running_loop().time()
        with pytest.raises(ZeroDivisionError, match="cannot be stopped"):
            await stop_processes({a.process: fail, b.process: hang, c.process: c.stop})
        assert asyncio.get_running_loop().time() - began <= PROCESSES_S
        assert runs[0].killed
        assert runs[1].killed
        assert isinstance(runs[2].sent[-1], Stop)
        await asyncio.sleep(60)
        assert [daemon.capture(name) for name in "abc"] == runs, "none was started again"
        await daemon.worker.stop()

    run(story())
    assert "capture-b did not end in 2.5 s and was killed" in caplog.text


def test_libzmq_is_left_if_a_socket_stays_open(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(mertd.daemon.shutdown, "TERMINATE_S", 0.05)
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    terminate(context)
    assert "a socket is still open" in caplog.text
    socket.close()
    wait_until(lambda: context.closed, PATIENCE_S, lambda: "it never ends")


def test_libzmq_ends_at_once_if_all_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    context = zmq.Context()
    context.socket(zmq.PUB).close()
    terminate(context)
    assert context.closed
    assert not caplog.text


def test_these_are_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    add = Shutdown.add

    def note(self: Shutdown, what: str, step: mertd.daemon.shutdown.Step) -> None:
        added.append(what)
        add(self, what, step)

    monkeypatch.setattr(Shutdown, "add", note)
    stage = Stage()

    async def story() -> None:
        stage.supervisor.stop("asked to")

    stage.play(story)
    assert added == STEPS


def test_a_failure_counts_more_than_what_goes_wrong_after_it() -> None:
    """It explains the end, and decides the exit code."""
    stage = Stage("close control")

    async def story() -> None:
        stage.state.fail("no such file", 3)

    with pytest.raises(mertd.daemon.run_state.StartError, match="no such file"):
        stage.play(story)


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.remove()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_real_daemon_ends_whichever_step_raises(step: str, traces: Traces) -> None:
    """In 5 s, with the exit code of a bug, and without a process left."""
    program = Path(__file__).with_name("broken_stop.py")
    ends = [f"--{name}=ipc://{traces.folder}/{name}" for name in ("bind", "control")]
    options = ["run", *TINY, *SHORT, "--source", "synth:chords?name=room", *ends]
    log = traces.folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, program, step, *options], stderr=stderr, env=traces.environment)
    try:
        wait_until(lambda: "capture-room is healthy" in log.read_text(), PATIENCE_S, log.read_text)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = process.wait(PATIENCE_S)
        taken_s = time.monotonic() - began
    finally:
        process.kill()
        process.wait()
    assert taken_s < STOP_S, log.read_text()
    assert code == 1, log.read_text()
    assert f"stopping: could not {step}" in log.read_text()
    assert f"ZeroDivisionError: no {step}" in log.read_text()
    wait_until(lambda: not traces.processes(), STOP_S, lambda: f"left: {traces.processes()}")
