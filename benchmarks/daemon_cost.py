"""What the daemon costs without the model: CPU and memory of the supervisor and of capture, for one stream in real time.

Run: uv run python benchmarks/daemon_cost.py [--source synth:chords] [--seconds 30]
Shares of one core over `--seconds`, after start-up; resident memory at the end. Also the CPU time of `mertd --help`.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

import psutil

from mertd.errors import EndpointError
from mertd.stream.control import ask
from mertd.wire import Status

MERTD = [sys.executable, "-m", "mertd"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="synth:chords")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*MERTD, "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"mertd --help: {after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime:.2f} s of CPU")

    with tempfile.TemporaryDirectory() as folder:
        ends = [f"ipc://{folder}/{name}" for name in ("publish", "control")]
        tiny = ["--weights", "random:0?size=tiny", "--layers", "1"]
        command = [*MERTD, "run", "--source", options.source, *tiny, "--bind", ends[0], "--control", ends[1]]
        daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            status = wait_for(daemon, ends[1])
            watched = {name: psutil.Process(facts["pid"]) for name, facts in status.processes.items() if name != "embed"}
            start = {name: cpu(process) for name, process in watched.items()}
            began = time.monotonic()
            time.sleep(options.seconds)
            elapsed = time.monotonic() - began
            shares, sizes = 0.0, 0.0
            for name, process in watched.items():
                share = 100 * (cpu(process) - start[name]) / elapsed
                size = process.memory_info().rss / 1e6
                shares, sizes = shares + share, sizes + size
                print(f"{name:16s} {share:5.2f} % of a core   {size:5.1f} MB resident")
            print(f"{'both':16s} {shares:5.2f} % of a core   {sizes:5.1f} MB resident")
        finally:
            daemon.terminate()
            daemon.wait()


def wait_for(daemon: subprocess.Popen[bytes], control: str) -> Status:
    """The status once the stream is heard and the model is ready."""
    while daemon.poll() is None:
        try:
            (status,) = ask(control, {"request": "status"}, timeout_s=1.0)
        except EndpointError:
            continue
        assert isinstance(status, Status)
        if status.phase == "running" and all(stream["samples"] > 48_000 for stream in status.streams.values()):
            return status
    raise SystemExit(f"the daemon ended with {daemon.returncode}")


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "error")
    main()
