"""Two daemons that want the same ports: the second is told which process has them, and a killed one is in nobody's way."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from command_process import complaints, mertd
from daemon_process import SHORT, TINY, Daemon

SYNTH = [*TINY, *SHORT, "--pace", "fast", "--source", "synth:chords?seconds=2", "--exit-at-end"]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All daemons of a test are one user's."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "mertd"


def refusal(*options: object) -> str:
    done = mertd("run", *SYNTH, *options)
    assert done.returncode == 3
    (line,) = complaints(done.stderr)
    return line


@pytest.mark.slow
def test_a_second_daemon_on_the_same_ports(runtime: Path) -> None:
    anywhere = ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", endpoints=anywhere) as first:
        first.bound()
        expected = f"is in use by another mertd, process {first.process.pid} "
        line = refusal("--bind", first.publish, "--control", anywhere[1])
        assert f"{first.publish} {expected}" in line
        assert f"`mertd status --control {first.control}` asks it, `kill {first.process.pid}` stops it" in line
        assert line.endswith("or choose another --bind")
        other_name = first.control.replace("127.0.0.1", "localhost")
        line = refusal("--bind", anywhere[0], "--control", other_name)
        assert f"{other_name} {expected}" in line
        assert line.endswith("or choose another --control")
        with Daemon(*SYNTH, endpoints=anywhere) as second:  # on other ports there may be as many as one likes
            second.exits(0)
        first.until(lambda s: s.streams["chords"]["embedded"] > 0)
        first.process.kill()
        first.exits(-signal.SIGKILL)
        (left,) = runtime.iterdir()
        with Daemon(*SYNTH, endpoints=(first.publish, first.control)) as third:
            third.exits(0)
    assert not left.exists()
    assert not runtime.exists()
