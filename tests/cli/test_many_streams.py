"""A daemon with many streams, whose captures share processes: what dies, hangs, is paused or ends stays with its stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from command_process import PATIENCE_S
from daemon_process import TINY, Daemon, events, listening
from mertd.daemon.stream_needs import MANY_STREAMS
from mertd.stream.request import ask
from mertd.wire import Status

COUNT = MANY_STREAMS + 2
NAMES = [f"s{number}" for number in range(COUNT)]
SOURCES = [word for name in NAMES for word in ("--source", f"synth:tone?rate=24000&channels=1&name={name}")]
OPTIONS = [*TINY, "--window", "1", "--hop", "2", *SOURCES]


def pids(status: Status) -> dict[str, int]:
    """The process of each stream's capture."""
    return {name: status.processes[f"capture-{name}"]["pid"] for name in NAMES}


def all_listen(status: Status, but: int = 0) -> bool:
    """Whether each stream is captured, and none in the process `but`."""
    found = pids(status)
    return all(stream["state"] == "listening" for stream in status.streams.values()) and not {0, but} & set(found.values())


@pytest.mark.slow
def test_captures_share_processes_and_go_on_after_each_death() -> None:
    with Daemon(*OPTIONS) as daemon:
        status = daemon.until(all_listen)
        first = pids(status)
        sizes = Counter(first.values())
        assert sorted(sizes.values()) == [COUNT // 2, COUNT // 2]
        with listening(daemon, "event") as heard:
            victim = first["s0"]
            os.kill(victim, signal.SIGKILL)
            second = pids(daemon.until(lambda s: all_listen(s, victim)))
            daemon.until(lambda s: all(s.streams[name]["epoch"] == (first[name] == victim) for name in NAMES))
            assert {second[name] for name in NAMES if first[name] != victim} == set(sizes) - {victim}
            os.kill(second["s0"], signal.SIGKILL)
            third = pids(daemon.until(lambda s: all_listen(s, second["s0"])))
            daemon.stop()
        alone = [name for name in NAMES if first[name] == victim]
        assert len({third[name] for name in alone}) == len(alone), "each has a process of its own now"
        for name in NAMES:
            assert len(events(heard, name, "device_back")) == (2 if name in alone else 0)


@pytest.mark.slow
def test_one_stream_can_be_paused_and_a_process_that_is_stopped_is_replaced() -> None:
    with Daemon(*OPTIONS) as daemon:
        first = pids(daemon.until(all_listen))
        ask(daemon.control, {"request": "pause", "stream": "s0"})
        daemon.until(lambda s: s.streams["s0"]["state"] == "paused")
        before = daemon.status().streams["s2"]["samples"]
        daemon.until(lambda s: s.streams["s2"]["samples"] > before)
        ask(daemon.control, {"request": "resume", "stream": "s0"})
        resumed = daemon.until(all_listen)
        assert pids(resumed) == first
        assert resumed.streams["s0"]["epoch"] == 1
        os.kill(first["s0"], signal.SIGSTOP)
        daemon.until(lambda s: all_listen(s, first["s0"]))


@pytest.mark.slow
def test_too_few_descriptors_are_a_clear_error() -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", sys.executable, "-m", "mertd", "run", *OPTIONS],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 3
    needed = 2 * COUNT + 2 * 4 + 64
    assert f"{COUNT} streams need about {needed} file descriptors, and the system allows this process 100" in done.stderr
