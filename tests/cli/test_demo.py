"""`mertd demo`, small; CI runs the whole one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from command_process import PATIENCE_S, Traces, mertd, running

TINY = ["--weights", "random:0?size=tiny"]


def test_shows_embeddings_and_says_that_they_mean_nothing() -> None:
    done = mertd("demo", "--count", "2", *TINY)
    assert done.returncode == 0, done.stderr
    first, *lines, last = [line for line in done.stdout.splitlines() if line.strip()]
    assert "35 s of synthesised chords" in first
    assert len(lines) == 2
    assert all("chords#" in line and line.endswith("UNTRAINED") for line in lines)
    assert last.startswith("UNTRAINED")


@pytest.mark.slow
def test_a_daemon_that_cannot_start_fails_the_demo() -> None:
    done = mertd("demo", "--weights", "nowhere.safetensors")
    assert done.returncode == 3
    assert "mertd: no weights file at nowhere.safetensors" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_a_signal_ends_it_with_its_daemon(number: signal.Signals, group: bool, code: int) -> None:
    traces = Traces()
    command = [sys.executable, "-m", "mertd", "demo", "--backend", "numpy"]  # full size: still loading when the signal comes
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        with running(command, **streams, env=traces.environment, start_new_session=True) as demo:
            assert demo.stderr is not None
            assert b"publishing on" in demo.stderr.readline()
            os.killpg(demo.pid, number) if group else demo.send_signal(number)
            _, err = demo.communicate(timeout=PATIENCE_S)
        assert demo.returncode == code
        assert b"Traceback" not in err
        traces.assert_gone()
    finally:
        traces.remove()
