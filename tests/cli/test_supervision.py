"""Children that crash, hang or fail again and again: replaced in time, told of on the wire, remembered in the status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from command_process import PATIENCE_S, STOP_S, Traces, complaints, mertd, wait_until
from daemon_process import SHORT, TINY, Daemon, embeddings, events, listening
from mertd.errors import EndpointError
from mertd.stream.request import ask
from mertd.wire import Event, Message, Status

LIVE = [*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords"]


def health(heard: list[Message], process: str) -> list[Event]:
    return [e for e in events(heard, "chords", "health") if e.detail["process"] == process]


def assert_accounted(heard: list[Message]) -> None:
    """Every window due was embedded or announced, but for those that were waiting when the daemon was stopped."""
    last = [m for m in heard if isinstance(m, Status)][-1].streams["chords"]
    assert last["due"] == last["embedded"] + last["silent"] + last["skipped"] + last["waiting"], last
    assert last["waiting"] <= 2
    assert len(embeddings(heard, "chords")) == last["embedded"]
    assert sum(e.detail["windows"] for e in events(heard, "chords", "skipped")) == last["skipped"]


def ready(status: Status, not_pid: int = 0) -> bool:
    return status.model != {} and status.processes["embed"]["pid"] not in (0, not_pid)


def crash(daemon: Daemon, times: int) -> None:
    """Abort the embed process whenever it has become ready, as a native library would."""
    pid = 0
    for _ in range(times):
        pid = daemon.until(lambda s, pid=pid: ready(s, pid)).processes["embed"]["pid"]
        os.kill(pid, signal.SIGABRT)
    daemon.until(lambda s: ready(s, pid))


@pytest.mark.slow
def test_a_model_that_hangs_is_suspected_killed_and_replaced() -> None:
    with Daemon(*LIVE, "--late", "queue") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
            hung = daemon.pid("embed")
            os.kill(hung, signal.SIGSTOP)
            suspect = daemon.until(lambda s: s.processes["embed"]["state"] == "suspect")
            back = daemon.until(lambda s: ready(s, hung))
            reached = back.streams["chords"]["due"]
            daemon.until(lambda s: s.streams["chords"]["embedded"] >= reached)
            shown = mertd("status", "--control", daemon.control)
            daemon.stop()
    assert suspect.processes["embed"]["pid"] == hung
    assert_accounted(heard)
    assert not events(heard, "chords", "skipped"), "its windows were embedded by its successor"
    story = health(heard, "embed")
    assert [e.detail["state"] for e in story] == ["healthy", "suspect", "recovering", "healthy"]
    assert story[1].detail["reason"].startswith("no message for 1.")
    assert "has hung for 3" in story[2].detail["reason"]
    assert [e.detail["state"] for e in health(heard, "capture-chords")] == ["healthy"]
    embed = back.processes["embed"]
    assert (embed["restarts"], embed["last_error"]) == (1, story[2].detail["reason"])
    assert abs(embed["last_error_ns"] - story[2].time_ns) < 5e9
    assert f"last error {time.strftime('%Y-%m-%d', time.localtime(embed['last_error_ns'] / 1e9))}" in shown.stdout
    assert embed["last_error"] in shown.stdout


@pytest.mark.slow
def test_a_backend_that_crashes_three_times_makes_way_for_the_next() -> None:
    """`auto` means ONNX Runtime here, then numpy."""
    with Daemon(*LIVE, "--backend", "auto", "--precision", "float32") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            crash(daemon, 3)
            status = daemon.until(lambda s: s.model.get("backend") == "numpy")
            reached = status.streams["chords"]["embedded"]
            daemon.until(lambda s: s.streams["chords"]["embedded"] > reached + 2)
            daemon.stop()
    assert_accounted(heard)
    (changed,) = events(heard, "chords", "backend_changed")
    assert (changed.detail["previous"], changed.detail["backend"]) == ("onnx", "numpy")
    assert "died 3 times in a row" in changed.detail["reason"]
    assert "SIGABRT (a native library aborted)" in changed.detail["reason"]
    assert changed.detail["rejected"] == status.model["rejected"] == {"onnx": changed.detail["reason"]}
    assert {m.model.backend for m in embeddings(heard, "chords")[-2:]} == {"numpy"}
    assert "failed" not in [e.detail["state"] for e in health(heard, "embed")]


@pytest.mark.slow
def test_a_backend_without_alternative_is_tried_for_ever() -> None:
    with Daemon(*LIVE, "--backend", "numpy") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            crash(daemon, 4)
            reached = daemon.status().streams["chords"]["embedded"]
            daemon.until(lambda s: s.streams["chords"]["embedded"] > reached and s.processes["embed"]["state"] == "healthy")
            daemon.stop()
    assert_accounted(heard)
    states = [e.detail["state"] for e in health(heard, "embed")]
    assert states[-2:] == ["failed", "healthy"]
    assert states.count("failed") <= 2, "it may have answered once in between"
    assert not events(heard, "chords", "backend_changed")


def test_a_model_that_never_was_ready_ends_the_daemon() -> None:
    options = [
        "--weights",
        "random:0",
        "--backend",
        "numpy",
        "--source",
        "synth:chords",
    ]  # it takes seconds to make the weights
    with Daemon(*options) as daemon:
        os.kill(daemon.pid("embed"), signal.SIGKILL)
        daemon.exits(3)
        (line,) = complaints(daemon.stderr)
        assert "embed process was ended by SIGKILL" in line


@pytest.mark.slow
def test_a_daemon_that_was_stopped_itself_blames_nobody() -> None:
    """As after a sleep of the machine: nothing was heard for longer than any process may be silent."""
    with Daemon(*LIVE) as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
            children = [daemon.pid(name) for name in ("embed", "capture-chords")]
            pids = [daemon.process.pid, *children]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(4.0)  # not to wait for something, but what is tested
            os.kill(daemon.process.pid, signal.SIGCONT)
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)
            reached = daemon.status().streams["chords"]["embedded"]
            daemon.until(lambda s: s.streams["chords"]["embedded"] > reached + 4)
            status = daemon.status()
            daemon.stop()
    assert [status.processes[name]["restarts"] for name in ("embed", "capture-chords")] == [0, 0]
    assert not [e for e in events(heard, "chords", "health") if e.detail["state"] == "recovering"]


def test_memory_that_is_not_there_is_missed_at_the_start() -> None:
    """Not when it is first touched, which would be the end of whichever process touches it."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    options = [*TINY, *SHORT, "--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
    done = mertd("run", *options, "--source", "synth:chords", first=limit)
    assert done.returncode == 3
    (line,) = complaints(done.stderr)
    assert "no memory for 32 s of audio" in line
    assert "--ring" in line


@pytest.mark.slow
def test_the_log_as_json_tells_every_event_and_every_change_of_health() -> None:
    options = [*TINY, *SHORT, "--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*", "--pace", "fast"]
    source = ["--source", "synth:silence?seconds=2", "--exit-at-end"]
    done = mertd("run", *options, *source, "--log-format", "json", "--log-level", "debug")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    told = [line for line in lines if "event" in line]
    assert sorted(line["event"] for line in told) == ["ended", *["silent"] * 3, "started", "stopping"]
    assert (told[0]["event"], told[-1]["event"]) == ("started", "stopping")
    assert {line["stream"] for line in told} == {"silence"}
    assert all(line["level"] == ("debug" if line["event"] == "silent" else "info") for line in told)
    assert all(line["detail"]["zeros"] == 24_000 for line in told if line["event"] == "silent")
    changes = {(line["process"], line["previous"], line["state"]) for line in lines if "process" in line}
    assert changes == {(process, "recovering", "healthy") for process in ("embed", "capture-silence")}
    quiet = mertd("run", *options, *source, "--log-level", "warning")
    assert (quiet.returncode, quiet.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it needs /dev/full and a pipe of known size")
@pytest.mark.parametrize("where", ["full", "closed", "unread"])
def test_a_log_that_cannot_be_written_stops_nothing(where: str) -> None:
    """A full disk, no standard error at all, a pipe that is full because nobody reads it."""
    traces = Traces()
    publish, control = (f"ipc://{traces.folder}/{name}" for name in ("publish", "control"))
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4_096)))
    full = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.Popen(
        [sys.executable, "-m", "mertd", "run", *LIVE, "--bind", publish, "--control", control],
        stdin=subprocess.DEVNULL,
        stderr={"full": full, "closed": subprocess.DEVNULL, "unread": writing}[where],
        preexec_fn=(lambda: os.close(2)) if where == "closed" else None,
        env=traces.environment,
    )
    try:

        def status() -> Status | None:
            assert process.poll() is None, f"it has exited with {process.returncode}"
            with contextlib.suppress(EndpointError):
                (message,) = ask(control, {"request": "status"})
                assert isinstance(message, Status)
                return message
            return None

        def embedded(windows: int, epoch: int) -> Status:
            found: list[Status] = []

            def enough() -> bool:
                found[:] = [s] if (s := status()) else []
                chords = found[0].streams["chords"] if found else {"embedded": 0}
                return bool(chords["embedded"] >= windows and chords["epoch"] == epoch)

            wait_until(enough, PATIENCE_S, lambda: f"it does not embed: {found}")
            return found[0]

        before = embedded(1, 0)
        os.kill(before.processes["capture-chords"]["pid"], signal.SIGKILL)
        after = embedded(before.streams["chords"]["due"] + 2, 1)
        lost = [s.processes["supervisor"]["log_lost"] for s in (before, after)]
        assert lost[1] > lost[0] > 0 if where == "full" else lost == [0, 0]
        process.terminate()
        assert process.wait(STOP_S) == 0
        traces.assert_gone()
    finally:
        process.kill()
        process.wait()
        for descriptor in (reading, writing, full):
            os.close(descriptor)
        traces.remove()
