"""`mertd tail` beside a running daemon, and alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from command_process import PATIENCE_S, complaints, mertd, running
from daemon_process import SHORT, TINY, Daemon


@pytest.fixture(scope="module")
def live() -> Iterator[Daemon]:
    """A daemon with two streams, in real time."""
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords", "--source", "synth:tone") as daemon:
        daemon.until(lambda s: all(stream["embedded"] for stream in s.streams.values()))
        yield daemon


pytestmark = pytest.mark.xdist_group("tail")


def test_lines_for_people(live: Daemon) -> None:
    done = mertd("tail", "--connect", live.publish, "--stream", "chords", "--count", "3")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    clock, numbers = r"\d\d:\d\d:\d\d\.\d\d", r"\[\S+ \S+ \S+ …\]"
    line = rf"{clock} – {clock} ±\d+ ms  chords#\d+  layer 1,2 {numbers} 2x64  .*dBFS .* UNTRAINED"
    for shown in (first, second, third):
        assert re.fullmatch(line, shown), shown
    assert "cos" not in done.stdout, "raw cosines of these vectors mean nothing; `mertd similar` calibrates them"


def test_json_has_the_keys_of_the_wire(live: Daemon) -> None:
    done = mertd("tail", "--connect", live.publish, "--json", "--count", "2")
    assert (done.returncode, done.stderr) == (0, "")
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe("embedding/")
        socket.connect(live.publish)
        assert socket.poll(PATIENCE_S * 1000)
        raw = msgpack.unpackb(socket.recv_multipart()[1])
    for message in map(json.loads, done.stdout.splitlines()):
        assert list(message) == list(raw)
        assert message["boot"] == raw["boot"].hex()
        assert message["vector"]["shape"] == [len(message["vector"]["data"]), len(message["vector"]["data"][0])] == [2, 64]
        assert message["model"] == raw["model"]


def test_only_the_streams_asked_for_and_events_only_if_asked_for(live: Daemon) -> None:
    some = ["tail", "--connect", live.publish, "--control", live.control, "--json", "--count", "3"]
    one = mertd(*some, "--stream", "tone")
    both = mertd(*some, "--stream", "tone", "--stream", "chords", "--last", "2", "--events")
    assert {json.loads(line)["stream"] for line in one.stdout.splitlines()} == {"tone"}
    assert {json.loads(line)["kind"] for line in one.stdout.splitlines()} == {"embedding"}
    assert {json.loads(line)["stream"] for line in both.stdout.splitlines()} == {"tone", "chords"}


@pytest.mark.slow
def test_a_daemon_that_ends_is_seen_in_events() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        command = [sys.executable, "-m", "mertd", "tail", "--connect", daemon.publish, "--events", "--timeout", "3"]
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
            assert tail.stdout is not None
            assert "chords#" in tail.stdout.readline()  # it is connected
            daemon.stop()
            out, err = tail.communicate(timeout=PATIENCE_S)
    assert "chords  stopping  reason=asked to" in out
    assert tail.returncode == 3
    assert complaints(err)[0].startswith("mertd: no embedding in 3 s")


def test_ctrl_c_ends_it_quietly(live: Daemon) -> None:
    command = [sys.executable, "-m", "mertd", "tail", "--connect", live.publish]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert "#" in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=PATIENCE_S)
    assert tail.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_has_had_enough(live: Daemon) -> None:
    """As `mertd tail | head -1`."""
    command = [sys.executable, "-m", "mertd", "tail", "--connect", live.publish]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        tail.stdout.readline()
        tail.stdout.close()
        assert tail.wait(PATIENCE_S) == 0
        assert tail.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["tail", "--connect", "ipc:///nowhere/publish", "--timeout", "0.2"],
            "no embedding in 0.2 s from ipc:///nowhere/publish",
        ),
        (["tail", "--connect", "nonsense"], "'nonsense' is not an endpoint"),
        (["tail", "--control", "nonsense", "--last", "3"], "nonsense is not an endpoint"),
        pytest.param(
            ["status", "--control", "ipc:///nowhere/control"],
            "no daemon answers at ipc:///nowhere/control",
            marks=pytest.mark.slow,  # it asks for three seconds
        ),
    ],
)
def test_nobody_there(words: list[str], complaint: str) -> None:
    done = mertd(*words)
    assert done.returncode == 3
    (said,) = complaints(done.stderr)
    assert said.startswith(f"mertd: {complaint}")
