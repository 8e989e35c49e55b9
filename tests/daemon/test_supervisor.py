"""The life of a daemon, put together from parts that are scripted: no process, no socket, virtual time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest

from daemon.scripted_daemon import ScriptedDaemon
from mertd.capture.reports import Ended
from mertd.daemon.change_reports import ChangeReports
from mertd.daemon.notify import Notifier
from mertd.daemon.parts import Parts, Sockets
from mertd.daemon.reload import Reloader
from mertd.daemon.run_state import RunState, StartError
from mertd.daemon.status import StatusReporter, StatusSources
from mertd.daemon.supervisor import Supervisor
from mertd.errors import EndpointError
from mertd.wire import Embedding, Event, Message, Status
from virtual_time import run

NAMES = ("connections", "publisher", "control", "instance")


class ScriptedSockets:
    """A publisher, a control server and a lock that only note what happens to them."""

    endpoint = "tcp://127.0.0.1:1"
    published = 0
    dropped = 0

    def __init__(self, name: str, log: list[str], fault: str = "") -> None:
        self._name, self._log, self._fault = name, log, fault

    def send(self, message: Message) -> None:
        self._log.append(f"send {message.phase}" if isinstance(message, Status) else f"send {message.kind}")

    async def serve(self) -> None:
        await asyncio.sleep(5)
        self._check(f"serve {self._name}")
        await asyncio.Event().wait()

    def close(self, linger_s: float = 0.0) -> None:  # noqa: ARG002
        self._log.append(f"close {self._name}")
        self._check(f"close {self._name}")

    def _check(self, what: str) -> None:
        if self._fault == what:
            raise ZeroDivisionError(what)


class Stage:
    """A supervisor with one stream called `room`. `log`: what happened, in order."""

    def __init__(self, fault: str = "", exit_at_end: bool = False) -> None:
        self.log: list[str] = []
        self.state = RunState()
        self._fault, self._exit_at_end = fault, exit_at_end
        self.supervisor = Supervisor(self.state, Notifier({}), lambda _: self._assemble())

    def _assemble(self) -> Parts:
        self.daemon = daemon = ScriptedDaemon(
            "device:x?name=room", state=self.state, exit_at_end=self._exit_at_end, start=False
        )
        publish = daemon.publish

        def noting(message: Embedding | Event) -> None:
            publish(message)
            self.log.append(message.event if isinstance(message, Event) else message.kind)

        daemon.publish = noting  # type: ignore[method-assign]
        connections, publisher, control, instance = (cast(Any, ScriptedSockets(name, self.log, self._fault)) for name in NAMES)
        sources = StatusSources(self.state, daemon.streams, daemon.worker, publisher, dict)
        reporter = StatusReporter(bytes(16), "studio", sources)
        reloader = Reloader(cast(Any, None), None, daemon.streams, Notifier({}))
        return Parts(
            Sockets(connections, None, publisher, control, instance),
            daemon.rings,
            daemon.worker,
            daemon.streams,
            reporter,
            reloader,
            ChangeReports(daemon.streams),
        )

    def play(self, story: Callable[[], Any] | None = None) -> Stage:
        """Run it to its end, while a story happens."""

        async def both() -> None:
            running = asyncio.create_task(self.supervisor.run())
            await asyncio.sleep(2)
            if story is not None:
                await story()
            await running

        run(both())
        return self


SHUTDOWN = ["stopping", "send stopping", "close control", "close publisher", "close connections", "close instance"]
"""What happens when a daemon stops, in this order."""


def test_a_daemon_starts_serves_and_stops_in_order() -> None:
    stage = Stage()

    async def story() -> None:
        await stage.daemon.opened("room")
        await stage.daemon.model_ready()
        await asyncio.sleep(3)
        stage.supervisor.stop("asked to by a test")

    stage.play(story)
    assert stage.log[-len(SHUTDOWN) :] == SHUTDOWN
    assert stage.log.count("send starting") == 3, "once a second"
    assert stage.log.count("send running") in (2, 3)
    assert stage.daemon.detail("room", "stopping") == {"reason": "asked to by a test"}
    assert stage.daemon.worker.process.stopped
    assert stage.daemon.streams["room"].process.stopped


def test_a_daemon_that_is_to_stop_before_it_starts_makes_nothing() -> None:
    stage = Stage()
    stage.supervisor.stop("changed my mind")
    run(stage.supervisor.run())
    assert not hasattr(stage, "daemon")


def test_a_daemon_that_cannot_be_put_together_says_why() -> None:
    def refuse(_: object) -> Parts:
        raise EndpointError("in use")

    with pytest.raises(EndpointError, match="in use"):
        run(Supervisor(RunState(), Notifier({}), refuse).run())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_it(number: signal.Signals) -> None:
    stage = Stage()

    async def story() -> None:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0)

    assert stage.play(story).log[-len(SHUTDOWN) :] == SHUTDOWN


def test_it_stops_when_its_sources_have_ended() -> None:
    stage = Stage(exit_at_end=True)

    async def story() -> None:
        await stage.daemon.opened("room")
        stage.daemon.capture("room").report(Ended(reopens=False))
        stage.daemon.capture("room").end("ended unexpectedly with status 0")

    assert stage.play(story).state.reason == "all sources have ended"


def test_a_failure_is_raised_after_everything_was_stopped() -> None:
    stage = Stage()

    async def story() -> None:
        stage.state.fail("no such file", 3)
        stage.state.fail("a consequence", 3)

    with pytest.raises(StartError, match="no such file"):
        stage.play(story)
    assert stage.log[-len(SHUTDOWN) :] == SHUTDOWN
    assert stage.daemon.detail("room", "stopping") == {"reason": "failed"}


@pytest.mark.parametrize("fault", ["serve publisher", "serve control"])
def test_a_bug_in_one_of_the_loops_ends_the_daemon_in_order(fault: str) -> None:
    stage = Stage(fault)
    with pytest.raises(ZeroDivisionError, match=fault):
        stage.play()
    assert stage.log[-len(SHUTDOWN) :] == SHUTDOWN


@pytest.mark.parametrize("fault", ["close control", "close publisher"])
def test_an_error_while_it_stops_does_not_stop_the_stopping(fault: str) -> None:
    stage = Stage(fault)

    async def story() -> None:
        stage.supervisor.stop("asked to")

    with pytest.raises(ZeroDivisionError, match=fault):
        stage.play(story)
    assert stage.log[-len(SHUTDOWN) :] == SHUTDOWN, "all steps, all the same"


def test_a_bug_in_the_management_of_a_process_ends_the_daemon() -> None:
    stage = Stage()

    async def story() -> None:
        stage.daemon.streams["room"].on_exit = None  # type: ignore[assignment, method-assign]
        stage.daemon.capture("room").end("crashed")

    with pytest.raises(TypeError):
        stage.play(story)
    assert stage.log[-len(SHUTDOWN) :] == SHUTDOWN


def test_a_process_that_hangs_is_noticed() -> None:
    stage = Stage()

    async def story() -> None:
        await stage.daemon.opened("room")
        first = stage.daemon.capture("room")
        await asyncio.sleep(3)
        assert first.killed
        assert len(stage.daemon.captures["room"].runs) == 2
        stage.supervisor.stop("asked to")

    assert stage.play(story).daemon.detail("room", "health")["reason"].startswith("capture process has hung for 2")
