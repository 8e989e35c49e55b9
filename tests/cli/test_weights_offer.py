"""`mertd run` without weights: a person at the terminal is asked, and nobody else."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_process import PATIENCE_S, Traces
from mertd.cli.weights_offer import TERMS
from mertd.embed.weights.tensors import LICENCE

RUN = ["-P", "-m", "mertd", "run", "--source", "synth:chords", "--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
QUESTION = "Fetch them now? [y/N] "


class Terminal:
    """A pseudo-terminal that controls a process, and what has appeared on it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.shown = ""

    def take(self) -> None:
        """In a new process: make this its terminal."""
        os.setsid()
        fcntl.ioctl(self.theirs, termios.TIOCSCTTY, 0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read until a condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.shown
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._ours, 4096).decode()
                except OSError:  # Linux says so of a terminal that nobody has open
                    return

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    assert not traces.processes()
    traces.remove()


def start(terminal: Terminal, traces: Traces, command: list[str], stdin: int | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=terminal.theirs if stdin is None else stdin,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        env=traces.environment | {"HF_ENDPOINT": "http://127.0.0.1:1"},
        preexec_fn=terminal.take,
    )


def ended(terminal: Terminal, process: subprocess.Popen[bytes]) -> int:
    terminal.until(lambda: process.poll() is not None)
    terminal.until(lambda: not select.select([terminal._ours], [], [], 0)[0])
    return int(process.returncode)


def test_the_terms_name_the_licence() -> None:
    assert LICENCE in TERMS


@pytest.mark.parametrize(
    ("keys", "code", "last"),
    [
        ("\r", 3, "no weights: "),  # Enter alone means no
        pytest.param("nonsense\r", 3, "no weights: ", marks=pytest.mark.slow),
        pytest.param("\x04", 3, "no weights: ", marks=pytest.mark.slow),  # Ctrl-D
        pytest.param("Y\r", 3, "no weights from the hub: ", marks=pytest.mark.slow),  # this hub does not answer
        pytest.param("\x03", 130, QUESTION, marks=pytest.mark.slow),  # Ctrl-C
    ],
    ids=["Enter", "nonsense", "end of input", "yes", "Ctrl-C"],
)
def test_a_person_is_asked(keys: str, code: int, last: str, terminal: Terminal, traces: Traces) -> None:
    with start(terminal, traces, [sys.executable, *RUN]) as process:
        terminal.until(lambda: QUESTION in terminal.shown)
        assert TERMS in terminal.shown
        assert "MERT-v1-95M.safetensors" in terminal.shown
        terminal.type(keys)
        assert ended(terminal, process) == code
    assert last in terminal.shown
    assert "Traceback" not in terminal.shown
    if code == 3 and keys != "Y\r":
        assert "run `mertd model pull`" in terminal.shown


@pytest.mark.slow
def test_who_cannot_answer_is_not_asked(terminal: Terminal, traces: Traces) -> None:
    with start(terminal, traces, [sys.executable, *RUN], stdin=subprocess.DEVNULL) as process:
        assert ended(terminal, process) == 3
    assert QUESTION not in terminal.shown
    assert "run `mertd model pull`" in terminal.shown


@pytest.mark.slow
def test_a_program_in_the_background_does_not_read(terminal: Terminal, traces: Traces, tmp_path: Path) -> None:
    """The system would stop it."""
    shell = ["bash", "-c", f'set -m; "$@" & wait $!; echo "code $?" > {tmp_path}/code', "bash", sys.executable, *RUN]
    with start(terminal, traces, shell) as process:
        ended(terminal, process)
    assert (tmp_path / "code").read_text() == "code 3\n"
    assert QUESTION not in terminal.shown
    assert "run `mertd model pull`" in terminal.shown


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--weights", "absent.safetensors"], ["--source", "pipe:-"]], ids=["named", "pipe:-"])
def test_nothing_is_offered_to_one_who_names_weights_or_uses_standard_input(
    options: list[str], terminal: Terminal, traces: Traces
) -> None:
    with start(terminal, traces, [sys.executable, *RUN, *options]) as process:
        assert ended(terminal, process) == 3
    assert QUESTION not in terminal.shown
