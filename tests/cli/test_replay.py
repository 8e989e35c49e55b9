"""`mertd replay` as a user has it: a process, its lines, its exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.test_memory import mertd
from command_process import PATIENCE_S, STOP_S, running
from mertd.memory.store import Store
from mertd.stream.client.subscriber import Subscriber
from replay.test_remembered_span import heard

ANYWHERE = ["--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "memory") as store:
        store.append([heard(seq) for seq in range(50)])
    return tmp_path / "memory"


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "mertd", "replay", "--memory", str(folder), *words]


def bound(process: subprocess.Popen[str]) -> tuple[str, str]:
    assert process.stdout is not None
    found = re.search(r"publishing on (\S+), control on (\S+)\n", process.stdout.readline())
    assert found is not None
    return found[1], found[2]


@pytest.mark.slow
def test_started_again_a_client_that_ran_on_gets_all_again(folder: Path) -> None:
    with running(command(folder, *ANYWHERE, "--speed", "1000", "--stay"), stdout=subprocess.PIPE, text=True) as first:
        endpoint, control = bound(first)
        with Subscriber(endpoint, control=control, last=100, timeout=PATIENCE_S) as subscriber:
            messages = iter(subscriber)
            assert [next(messages).seq for _ in range(50)] == list(range(50))  # type: ignore[union-attr]
            taken = mertd("replay", "--memory", folder, "--bind", endpoint, "--control", control)
            assert taken.returncode == 3
            assert len(taken.stderr.splitlines()) == 1
            assert f"process {first.pid}" in taken.stderr
            first.send_signal(signal.SIGTERM)
            assert first.wait(STOP_S) == 0
            again = command(folder, "--bind", endpoint, "--control", control, "--speed", "max", "--wait-for-subscriber")
            with running(again, stdout=subprocess.PIPE, text=True) as second:
                bound(second)
                assert [next(messages).seq for _ in range(50)] == list(range(50))  # type: ignore[union-attr]
                assert second.wait(PATIENCE_S) == 0
                assert second.stdout is not None
                assert second.stdout.read() == "ended; 50 embeddings and 0 events published\n"
            assert subscriber.lost == 0


@pytest.mark.slow
def test_it_ends_at_a_signal_and_is_not_remembered(folder: Path, tmp_path: Path) -> None:
    with running(command(folder, *ANYWHERE), stdout=subprocess.PIPE, text=True) as process:
        endpoint, control = bound(process)
        refused = mertd("remember", "--connect", endpoint, "--control", control, "--memory", tmp_path / "other")
        assert refused.returncode == 3
        assert f"{endpoint} is a replay of a memory" in refused.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) == 0
        assert process.stdout is not None
        assert process.stdout.read().startswith("stopped; ")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--speed", "-1"], 2, "--speed -1: expected"),
        (["--speed", "nan"], 2, "--speed nan: expected"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], 2, "--to 2026-01-01 is not after --from 2026-01-02"),
        (["--from", "2h"], 3, "nothing to replay"),
        (["--memory", "/nonexistent"], 3, "no memory in /nonexistent"),
        (["--bind", "tcp://0.0.0.0:5592"], 2, "can be reached from other machines"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    from mertd.cli.app import run

    assert run(["replay", "--memory", str(folder), *words]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
