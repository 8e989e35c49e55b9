"""What the page costs: its own process with one browser, and what a hundred of them do to the daemon's publishing.

    PYTHONPATH=tests uv run python tests/view/cost.py

A daemon runs all the time; browsers connect and leave in turns. The time of publishing is that from the publisher to a
subscriber in a process of its own. Exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from mertd.bench.daemon import TINY, Watcher, _listeners
from mertd.bench.measure import cpu_s, percentiles, resident_mb
from mertd.bench.running import MERTD, DaemonProcess, sources
from mertd.config import load
from mertd.stream.endpoint import socket_folder
from mertd.view.feed import MAX_VIEWERS

MAX_CPU_PERCENT = 3.0
MAX_RATIO = 1.1
SETTLE_S = 1.0
SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def page(publish: str, control: str, folder: str) -> Iterator[tuple[int, str]]:
    """The page's server: its process and address."""
    words = ["view", "--connect", publish, "--control", control, "--bind", "127.0.0.1:0", "--memory", folder]
    process = subprocess.Popen([*MERTD, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.pid, process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def browsers(url: str) -> Iterator[Callable[[int], None]]:
    """A process of browsers. Yields a function that connects so many of them, and disconnects them for 0."""
    pipe, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_browse, args=(url, theirs), daemon=True)
    process.start()

    def connect(count: int) -> None:
        pipe.send(count)
        assert pipe.recv() == count

    try:
        yield connect
    finally:
        process.terminate()
        process.join()


def _browse(url: str, pipe: Connection) -> None:
    asyncio.run(_connect_and_read(url, pipe))


async def _connect_and_read(url: str, pipe: Connection) -> None:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    reading: list[asyncio.Task[None]] = []

    async def read(begun: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"GET /live HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            while await reader.read(1 << 16):
                begun.set()
        finally:
            writer.close()

    while True:
        count = await asyncio.to_thread(pipe.recv)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        waits = [asyncio.Event() for _ in range(count)]
        reading[:] = [asyncio.create_task(read(wait)) for wait in waits]
        await asyncio.gather(*(wait.wait() for wait in waits))
        pipe.send(count)


def own_cost(seconds: float, hop: float) -> tuple[float, float]:
    """Percent of a core of the page's process with one stream and one browser, and its resident megabytes."""
    options = ["--weights", "random:0?size=tiny", "--layers", "1", "--window", "2", "--hop", f"{hop:g}"]
    with tempfile.TemporaryDirectory() as folder, DaemonProcess(*sources(1), *options) as daemon:
        daemon.until(lambda s: s.phase == "running" and s.streams["s0"]["embedded"] > 2)
        with page(daemon.publish, daemon.control, folder) as (pid, url), browsers(url) as connect:
            connect(1)
            time.sleep(SETTLE_S)
            began_s, began = cpu_s(pid), time.perf_counter()
            time.sleep(seconds)
            return 100 * (cpu_s(pid) - began_s) / (time.perf_counter() - began), resident_mb(pid)


def publishing(count: int, rounds: int, seconds: float) -> dict[int, dict[str, float]]:
    """Milliseconds of publishing, by the number of browsers: none and `count`, in turns."""
    with tempfile.TemporaryDirectory(prefix="mertd-", dir=socket_folder()) as folder:
        ends = {name: f"ipc://{Path(folder, name)}" for name in ("bind", "control")}
        urls = tuple(word for word in sources(4) if word.startswith("synth"))
        facts = {**TINY, "window": 1.0, "hop": 0.25, "source": urls, **ends}
        watcher, phases = Watcher(1 << 60), list[tuple[int, int, int]]()

        async def run() -> None:
            daemon = asyncio.create_task(watcher.run(load(None, facts)))
            while not watcher.notes.sent:
                await asyncio.sleep(0.1)
            await asyncio.to_thread(measure)
            assert watcher._stop is not None
            watcher._stop("measured")
            await daemon

        def measure() -> None:
            with page(ends["bind"], ends["control"], folder) as (_, url), browsers(url) as connect:
                for _ in range(rounds):
                    for number in (0, count):
                        connect(number)
                        time.sleep(SETTLE_S)
                        began = time.monotonic_ns()
                        time.sleep(seconds)
                        phases.append((number, began, time.monotonic_ns()))

        with _listeners(ends["bind"], 1) as collect:
            asyncio.run(run())
            received = {(stream, start): at for receipts in collect() for stream, start, at in receipts}
    taken: dict[int, list[float]] = {0: [], count: []}
    for key, sent in watcher.notes.sent.items():
        for number, began, ended in phases:
            if began <= sent < ended and key in received:
                taken[number].append((received[key] - sent) / 1e6)
    return {number: percentiles(times) for number, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--browsers", type=int, default=100)
    given = parser.parse_args()
    assert given.browsers <= MAX_VIEWERS
    misses = []
    for hop in (5.0, 0.5):
        percent, megabytes = own_cost(3 * given.seconds, hop)
        print(f"page's process, one stream with a hop of {hop:g} s, one browser: {percent:.2f} % of a core, {megabytes:.0f} MB")
        if percent > MAX_CPU_PERCENT and hop == 5.0:
            misses.append("the page's process takes too much")
    found = publishing(given.browsers, given.rounds, given.seconds)
    for number, times in found.items():
        print(
            f"publishing with {number} browsers: median {times['p50']:.3f} ms, 99th percentile {times['p99']:.3f} ms, "
            f"{times['count']} windows"
        )
    ratio = found[given.browsers]["p99"] / found[0]["p99"]
    print(f"ratio of the 99th percentiles: {ratio:.2f}")
    if ratio > MAX_RATIO:
        misses.append("browsers slow the daemon's publishing")
    sys.exit("; ".join(misses) or 0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
