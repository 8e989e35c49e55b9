"""One daemon per control endpoint: a second one is told of the first, and a killed one is no obstacle."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mertd.daemon import instance
from mertd.daemon.instance import Holder, Instance, clean, explain, holder
from mertd.errors import EndpointError
from mertd.stream.endpoint import InUseError

A = "tcp://127.0.0.1:7001"
B = "tcp://127.0.0.1:7002"
C = "ipc:///tmp/x/control"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, and the lock's inside it."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder / "mertd"
    assert not [path for path in folder.rglob("*") if path.suffix == ".lock"]


def test_a_lock_says_who_holds_it_and_goes_with_its_holder(runtime: Path) -> None:
    first = Instance(A, B)
    assert holder(A) == holder(B) == Holder(os.getpid(), A, B)
    assert holder("tcp://localhost:7002") == holder(B), "the same port, by another name"
    assert holder("tcp://127.0.0.1:7003") is holder(C) is None
    assert [path.stat().st_mode & 0o777 for path in runtime.iterdir()] == [0o600]
    first.close()
    assert holder(A) is None
    assert not runtime.exists()


def test_a_second_daemon_is_told_the_first_ones_number() -> None:
    first = Instance(A, B)
    with pytest.raises(EndpointError, match=rf"{B} is in use by another mertd, process {os.getpid()} "):
        Instance(C, B)
    assert holder(B) == Holder(os.getpid(), A, B), "the first one is not touched"
    first.close()


def test_several_daemons_on_different_endpoints(runtime: Path) -> None:
    first, second = Instance(A, B), Instance("tcp://127.0.0.1:7003", C)
    first.close()
    found = holder(C)
    assert found is not None
    assert found.control == C
    second.close()
    assert not runtime.exists()


def hold_and_vanish() -> None:
    Instance(A, B)
    Instance(A, C)
    os._exit(0)


def test_what_a_killed_daemon_left_is_no_obstacle_and_is_cleared_away(runtime: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold_and_vanish)
    process.start()
    process.join(60)
    assert len(list(runtime.iterdir())) == 2
    assert holder(A) is None, "it is dead"
    again = Instance(A, B)
    assert [json.loads(path.read_text())["pid"] for path in runtime.iterdir()] == [os.getpid()]
    again.close()


def hold(publish: str, held: Any, release: Any) -> None:
    lock = Instance(publish, C)
    held.set()
    release.wait(60)
    lock.close()


@pytest.mark.parametrize(
    ("theirs", "ours", "clash"),
    [
        ("tcp://0.0.0.0:7001", A, True),
        (A, "tcp://*:7001", True),
        ("tcp://localhost:7001", "tcp://[::1]:7001", True),
        (A, "tcp://127.0.0.2:7001", False),
        (A, "tcp://0.0.0.0:7003", False),
    ],
)
def test_a_port_is_one_daemons_on_whatever_address(theirs: str, ours: str, clash: bool) -> None:
    """macOS itself lets two sockets share it."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(theirs, held, release))
    process.start()
    try:
        assert held.wait(60)
        if clash:
            with pytest.raises(EndpointError, match=rf"{re.escape(ours)} is in use by another mertd, process {process.pid} "):
                Instance(ours, "ipc:///tmp/x/other")
            with pytest.raises(EndpointError, match="or choose another --control"):
                Instance("tcp://127.0.0.1:7009", ours)
        else:
            Instance(ours, "ipc:///tmp/x/other").close()
    finally:
        release.set()
        process.join(60)


def test_what_is_none_of_ours_is_left_alone(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    (runtime / "notes.txt").write_text("keep")
    (runtime / "odd.lock").write_text("[]")
    assert holder(A) is None
    clean()
    assert [path.name for path in runtime.iterdir()] == ["notes.txt"]
    Instance(A, B).close()
    assert (runtime / "notes.txt").read_text() == "keep"


def test_without_a_folder_for_it_the_daemon_runs_and_says_so(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.parent.joinpath("file").write_text("")
    monkeypatch.setattr(instance, "folder", lambda: runtime.parent / "file" / "mertd")
    Instance(A, B).close()
    assert "no lock file (" in caplog.text
    assert holder(A) is None


def test_a_port_of_another_program_is_explained_differently() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        says = str(explain(InUseError(endpoint), "--bind"))
    assert says.startswith(f"{endpoint} is in use by another program")
    assert f"lsof -nP -iTCP:{endpoint.rpartition(':')[2]}" in says
    assert "choose another --bind" in says
    assert "process 12;" in str(explain(InUseError(C, 12), "--control")), "the lock beside a socket knows its holder"
