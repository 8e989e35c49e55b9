"""What systemd would be told: by the class alone, and by a real daemon that is ready, hangs, and stops."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from command_process import PATIENCE_S, wait_until
from daemon_process import SHORT, TINY, Daemon
from mertd.daemon.notify import Notifier

QUIET_S = 2.5
"""A daemon that is well feeds the watchdog every second; one that is stopped cannot, however slow the machine."""


class ServiceManager:
    """The receiving end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def told(self, within_s: float = 0.0) -> list[str]:
        """The lines of the next datagram; none if none comes in time."""
        self._socket.settimeout(within_s or 1e-3)
        try:
            return self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return []

    def until(self, line: str) -> list[str]:
        """All lines up to the one that begins so."""
        lines: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        while not any(found.startswith(line) for found in lines):
            assert time.monotonic() < deadline, f"no {line} in {lines}"
            lines += self.told(1.0)
        return lines

    def empty(self) -> None:
        while self.told():
            pass

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listening(address: str) -> Iterator[ServiceManager]:
    manager = ServiceManager(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[ServiceManager]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has sockets without a file")
    with tempfile.TemporaryDirectory() as folder:
        name = f"@mertd-{secrets.token_hex(8)}" if request.param == "abstract" else str(Path(folder) / "notify")
        with listening(name) as manager:
            yield manager


def notifier(manager: ServiceManager, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.address, **more})


def test_ready_is_said_once(manager: ServiceManager) -> None:
    speaker = notifier(manager)
    speaker.ready()
    speaker.ready()
    assert manager.told() == ["READY=1"]
    assert not manager.told()


def test_the_watchdog_is_fed_when_both_loops_turn(manager: ServiceManager) -> None:
    speaker = notifier(manager, WATCHDOG_USEC="10000000", WATCHDOG_PID=str(os.getpid()))
    speaker.ready()
    manager.empty()
    for _ in range(8):
        speaker.turned("watch")
    assert not manager.told(), "the status loop hangs"
    speaker.turned("status")
    assert manager.told() == ["WATCHDOG=1"]
    for _ in range(8):
        speaker.turned("status")
    assert not manager.told(), "nobody watches the children"
    speaker.turned("watch")
    assert manager.told() == ["WATCHDOG=1"]


def test_a_long_status_does_not_cost_the_watchdog(manager: ServiceManager) -> None:
    """Systemd ignores a datagram of more than 4,096 bytes as a whole."""
    speaker = notifier(manager, WATCHDOG_USEC="10000000", WATCHDOG_PID=str(os.getpid()))
    speaker.ready()
    manager.empty()
    speaker.turned("watch")
    speaker.turned("status", "\N{MUSICAL SYMBOL G CLEF}" * 5_000)
    told = manager.told()
    assert told[-1] == "WATCHDOG=1"
    assert len("\n".join(told).encode()) < 4_096


def test_time_is_asked_for_only_while_it_starts(manager: ServiceManager) -> None:
    speaker = notifier(manager, WATCHDOG_USEC="10000000")
    speaker.turned("status", "model not ready")
    speaker.turned("watch")
    assert manager.told() == ["STATUS=model not ready"]
    assert manager.told() == ["EXTEND_TIMEOUT_USEC=30000000", "WATCHDOG=1"]
    speaker.ready()
    speaker.turned("status", "two\nlines")
    speaker.turned("watch")
    assert [manager.told() for _ in range(3)] == [["READY=1"], ["STATUS=two lines"], ["WATCHDOG=1"]]


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_no_watchdog_of_ours(manager: ServiceManager, more: dict[str, str]) -> None:
    speaker = notifier(manager, **more)
    speaker.ready()
    manager.empty()
    speaker.turned("status")
    speaker.turned("watch")
    assert not manager.told()


def test_a_reload(manager: ServiceManager) -> None:
    speaker = notifier(manager)
    speaker.reloading()
    speaker.reloaded()
    assert not manager.told(), "it is not ready yet"
    speaker.ready()
    speaker.reloading()
    speaker.reloaded()
    first, second, third = (manager.told() for _ in range(3))
    assert first == third == ["READY=1"]
    assert second[0] == "RELOADING=1"
    name, value = second[1].split("=")
    assert name == "MONOTONIC_USEC"
    assert 0 <= time.monotonic() - int(value) / 1e6 < PATIENCE_S


def test_that_it_is_ready_cannot_be_lost(tmp_path: Path) -> None:
    """systemd may be starting anew just then."""
    speaker = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    speaker.ready()
    with listening(str(tmp_path / "notify")) as manager:
        for _ in range(2):
            speaker.turned("status")
            speaker.turned("watch")
        assert manager.told() == ["READY=1"]
        assert not manager.told()


def test_stopping(manager: ServiceManager) -> None:
    notifier(manager).stopping("asked to")
    assert manager.told() == ["STOPPING=1", "STATUS=stopping: asked to"]


def test_children_are_not_told_of_it() -> None:
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1", "HOME": "/"}
    Notifier(environment)
    assert environment == {"HOME": "/"}


def test_without_a_service_manager_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    speaker = Notifier({})
    speaker.ready()
    speaker.turned("status", "well")
    speaker.turned("watch")
    speaker.stopping("asked to")
    assert not caplog.records


def test_one_that_is_gone_costs_one_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    speaker = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    speaker.ready()
    speaker.turned("status", "well")
    speaker.stopping("asked to")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"NOTIFY_SOCKET": "vsock:2:1"}, "vsock:2:1"), ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1000000"}, "set it to 10")],
)
def test_what_cannot_work_is_said(environment: dict[str, str], words: str, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(environment)
    assert words in caplog.text


def stopped(daemon: Daemon) -> bool:
    return psutil.Process(daemon.process.pid).status() == psutil.STATUS_STOPPED


@pytest.mark.slow
def test_a_daemon_as_systemd_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder, listening(f"{folder}/notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
            before = manager.until("READY=1")
            assert "STATUS=model not ready; chords" in " ".join(before)
            assert daemon.status().phase == "running", "it was not ready when it said so"
            assert "WATCHDOG=1" in manager.until("STATUS=MERT-tiny on") + manager.until("WATCHDOG=1")
            for process in daemon.traces.processes():
                if process.pid != daemon.process.pid:
                    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & psutil.Process(process.pid).environ().keys()
            daemon.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: stopped(daemon), PATIENCE_S, lambda: "it goes on")
            manager.empty()
            assert not manager.told(QUIET_S), "a daemon that hangs is taken to be well"
            daemon.process.send_signal(signal.SIGCONT)
            manager.until("WATCHDOG=1")
            daemon.stop()
            last = manager.until("STATUS=stopping")
        assert last[-2:] == ["STOPPING=1", "STATUS=stopping: asked to"]
        assert not manager.told()
