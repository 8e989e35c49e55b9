"""Signals: a clean stop within five seconds, whatever the daemon is doing; and no orphans if it gets no chance to."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from command_process import PATIENCE_S, STOP_S, wait_until
from daemon_process import SHORT, TINY, Daemon, assert_conserved, embeddings, events, listening
from mertd.wire import Status

both = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
LONG = ["--weights", "random:0", "--backend", "numpy", "--pace", "fast", "--source", "synth:chords?seconds=31"]
"""One window that takes many seconds."""


def worked(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def assert_announced(heard: list, stream: str) -> None:
    (stopping,) = events(heard, stream, "stopping")
    assert stopping.detail["reason"] == "asked to"
    assert [m.phase for m in heard if isinstance(m, Status)][-1] == "stopping"


@pytest.mark.skipif(sys.platform != "linux", reason="the mask of another process is read from /proc")
@both
def test_stops_before_it_has_begun(number: signal.Signals) -> None:
    """Told so while it still loads its libraries, when there is nobody to listen yet."""
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        wait_until(lambda: number in blocked(daemon.process.pid), PATIENCE_S, lambda: "it does not hold signals back")
        daemon.stop(number)
        assert "stopping: asked to" in daemon.stderr
        assert "publishing on" not in daemon.stderr


def blocked(pid: int) -> set[int]:
    """Signals that a process holds back."""
    (line,) = re.findall(r"^SigBlk:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return {number for number in range(1, 65) if int(line, 16) >> (number - 1) & 1}


@pytest.mark.slow
@pytest.mark.linux  # other systems do not tell a child that its parent has died
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not end a stopped child with its parent")
def test_even_stopped_children_of_a_killed_daemon_go() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        for name in ("embed", "capture-chords"):
            os.kill(daemon.pid(name), signal.SIGSTOP)
        daemon.process.kill()
        wait_until(lambda: not daemon.traces.processes(), STOP_S, lambda: f"orphans: {daemon.traces.processes()}")
        daemon.exits(-signal.SIGKILL)
        for name in ("publish", "control", "publish.lock", "control.lock"):
            (daemon.traces.folder / name).unlink()
        daemon.traces.forget_lock()


@pytest.mark.slow
def test_stops_right_after_binding() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.bound()
        daemon.stop(signal.SIGTERM)
        assert "ready on" not in daemon.stderr


@pytest.mark.slow
@both
def test_stops_while_its_children_start(number: signal.Signals) -> None:
    """From the terminal, when no child has got as far as ignoring its signals: none of them may die of it, or say so."""
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        wait_until(lambda: len(daemon.traces.processes()) >= 4, PATIENCE_S, lambda: "no children")
        daemon.stop(number, group=True)
        assert "ready on" not in daemon.stderr


@pytest.mark.slow
@both
def test_stops_while_waiting_for_the_first_window(number: signal.Signals) -> None:
    with Daemon(*TINY, "--source", "synth:chords") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            before = daemon.until(lambda s: s.phase == "running" and s.streams["chords"]["samples"] > 0)
            daemon.stop(number, group=True)
    assert before.streams["chords"]["due"] == 0
    assert_announced(heard, "chords")


@pytest.mark.slow
def test_stops_while_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "radio")
    with Daemon(*TINY, "--source", f"pipe:{tmp_path / 'radio'}") as daemon:
        with listening(daemon, "event", "status") as heard:
            daemon.until(lambda s: s.phase == "running" and s.streams["radio"]["state"] == "listening")
            daemon.stop()
    assert_announced(heard, "radio")


@pytest.mark.slow
@both
def test_stops_between_windows(number: signal.Signals) -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords", "--source", "synth:tone") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: all(stream["embedded"] >= 2 for stream in s.streams.values()))
            daemon.stop(number, group=True)
    for stream in ("chords", "tone"):
        assert_announced(heard, stream)
        assert len(embeddings(heard, stream)) >= 2


@pytest.mark.slow
def test_stops_in_the_middle_of_a_long_inference() -> None:
    """Half a minute of sound through the whole network in plain numpy: it cannot be interrupted, only ended."""
    with Daemon(*LONG) as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.phase == "running" and s.streams["chords"]["waiting"] == 1)
            embed = psutil.Process(daemon.pid("embed"))
            before = worked(embed)
            wait_until(lambda: worked(embed) > before + 0.3, PATIENCE_S, lambda: "it does not compute")
            daemon.stop()
    assert_announced(heard, "chords")
    assert not embeddings(heard, "chords")


@pytest.mark.slow
def test_stops_although_its_children_hang() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--source", "synth:tone") as daemon:
        with listening(daemon, "event", "status") as heard:
            daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
            for name in ("embed", "capture-chords", "capture-tone"):
                os.kill(daemon.pid(name), signal.SIGSTOP)
            daemon.stop(signal.SIGINT)
    assert_announced(heard, "tone")


@pytest.mark.slow
def test_stops_when_its_source_is_held_up() -> None:
    """At fast pace, with a full ring and a model that does not answer."""
    with Daemon(*TINY, *SHORT, "--pace", "fast", "--ring", "2", "--source", "synth:chords") as daemon:
        with listening(daemon, "event", "status") as heard:
            os.kill(daemon.pid("embed"), signal.SIGSTOP)
            daemon.until(lambda s: s.streams["chords"]["waiting"] >= 2)
            daemon.stop()
    assert_announced(heard, "chords")


@pytest.mark.slow
def test_a_reload_does_not_end_it() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        before = daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.said("chords: reloaded")
        daemon.until(lambda s: s.streams["chords"]["embedded"] > before.streams["chords"]["embedded"] + 1)


@pytest.mark.slow
def test_a_terminal_that_closes_ends_it() -> None:
    """The daemon leads a session of its own on a new terminal, which then goes away."""
    ours, theirs = os.openpty()
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", terminal=theirs) as daemon:
        os.close(theirs)
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        os.close(ours)
        daemon.exits(0, STOP_S)
        assert "stopping: asked to" in daemon.stderr


@pytest.mark.slow
def test_an_impatient_user_presses_ctrl_c_again() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        os.kill(daemon.pid("capture-chords"), signal.SIGSTOP)  # so that stopping takes a second
        os.killpg(daemon.process.pid, signal.SIGINT)
        daemon.said("stopping")
        daemon.stop(signal.SIGINT, group=True)


@pytest.mark.slow
def test_children_of_a_killed_daemon_go_by_themselves_and_the_next_one_can_bind() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--source", "synth:tone") as daemon:
        daemon.until(lambda s: s.streams["tone"]["embedded"] > 0)
        assert len(daemon.traces.processes()) >= 4
        daemon.process.kill()
        daemon.exits(-signal.SIGKILL)
        wait_until(lambda: not daemon.traces.processes(), STOP_S, lambda: f"orphans: {daemon.traces.processes()}")
        fast = ["--pace", "fast", "--source", "synth:chords?seconds=2", "--exit-at-end"]
        with Daemon(*TINY, *SHORT, *fast, endpoints=(daemon.publish, daemon.control)) as following:
            with listening(following, "embedding", "event", "status") as heard:
                following.exits(0)
        assert_conserved(heard, "chords")
        daemon.traces.forget_lock()


@pytest.mark.slow
def test_children_of_a_killed_daemon_go_even_in_the_middle_of_an_inference() -> None:
    with Daemon(*LONG) as daemon:
        daemon.until(lambda s: s.phase == "running" and s.streams["chords"]["waiting"] == 1)
        daemon.process.kill()
        daemon.exits(-signal.SIGKILL)
        wait_until(lambda: not daemon.traces.processes(), STOP_S, lambda: f"orphans: {daemon.traces.processes()}")
        for name in ("publish", "control", "publish.lock", "control.lock"):
            (daemon.traces.folder / name).unlink()
        daemon.traces.forget_lock()
