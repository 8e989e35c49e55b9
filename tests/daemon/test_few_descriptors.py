"""A daemon that has no descriptors left for a new child: it waits ever longer, says so, burns no processor, and recovers."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys

import psutil
import pytest

from command_process import wait_until
from daemon_process import SHORT, TINY, Daemon

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of another process"),
]


def test_dead_children_are_replaced_as_soon_as_there_are_descriptors_again() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        pid = daemon.process.pid
        children = [daemon.pid(name) for name in ("embed", "capture-chords")]
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        supervisor = psutil.Process(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, hard))  # all that is open stays open
        for child in children:
            os.kill(child, signal.SIGKILL)
        daemon.said(r"embed starts again in 3.0 s")
        daemon.said(r"capture-chords has failed: capture process could not be started: .*Too many open files")
        before = supervisor.cpu_times()
        attempts = len(re.findall("embed starts again", daemon.stderr))
        wait_until(lambda: len(re.findall("embed starts again", daemon.stderr)) >= attempts + 2, 60, lambda: daemon.stderr)
        after = supervisor.cpu_times()
        assert after.user + after.system - before.user - before.system < 2.0, "of at least 3 s, in which it only waits"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        status = daemon.until(
            lambda s: (
                all(s.processes[name]["state"] == "healthy" for name in ("embed", "capture-chords"))
                and all(s.processes[name]["pid"] not in (0, *children) for name in ("embed", "capture-chords"))
            )
        )
        assert "Too many open files" in status.processes["embed"]["last_error"]
        reached = status.streams["chords"]["embedded"]
        status = daemon.until(lambda s: s.streams["chords"]["embedded"] > reached)
        assert status.model["rejected"] == {}, "it was no fault of the backend"
