"""How many messages a second a relay carries: one made stream, a real NATS server, and what the processes take.

PYTHONPATH=tests python tests/bus/relay_rate.py --rate 5000 --seconds 20 [--sync 2m]

It ends with 1 unless everything is on the bus two seconds after the last message was sent, without a hole, and the memory of
the relay stays within `GROWTH_BYTES` of what it was after the first third. With `--outage`, the server is down for so long in
the middle, longer than the history of the daemon lasts: then only the memory is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nats
import psutil

from bus.cluster import Cluster
from command_process import PATIENCE_S, wait_until
from mertd.bench.fanout import example
from mertd.stream.server.history import Page
from mertd.wire import encode
from messages import status
from stream.servers import control, publisher

LATE_S = 2.0
"""Seconds after the last message in which the rest has to arrive."""

GROWTH_BYTES = 16 << 20
"""Bytes by which the relay may be larger at the end than after the first third."""

BOOT = bytes([7] * 16)
TURN_S = 0.01
"""Seconds between two groups of messages."""


def publish(rate: int, seconds: float, ends: Any) -> None:
    """Publish at a steady rate, and a status each second; then say how many, and stay until told to end."""
    with publisher() as publishing:
        sent = 0

        def counters() -> Any:
            return status(boot=BOOT, daemon="rate", streams={"room": {"embedded": sent, "events": 0}})

        def answer(request: dict[str, Any]) -> Page:
            if request["request"] == "status":
                return Page([encode(counters())], False)
            if "since" in request:
                return Page([], False) if "boot" in request else publishing.history.since(request["kind"], "room", 0)
            return publishing.history.between(request["kind"], "room", request["first"], request.get("end"))

        with control(answer) as endpoint:
            ends.send((publishing.endpoint, endpoint))
            while not ends.poll(0.2):
                publishing.send(counters())
            ends.recv()
            first = replace(example(), boot=BOOT, daemon="rate", stream="room")
            begin = told = time.monotonic()
            while (now := time.monotonic()) < begin + seconds:
                while sent < (now - begin) * rate:
                    publishing.send(replace(first, seq=sent))
                    sent += 1
                if now >= told + 1:
                    told = now
                    publishing.send(counters())
                time.sleep(TURN_S)
            publishing.send(counters())
            ends.send((sent, time.monotonic() - begin))
            while not ends.poll(1.0):
                publishing.send(counters())


@dataclass(frozen=True)
class Measured:
    """`late_s`: from the last message until all were on the bus. Sizes in bytes, CPU in cores."""

    sent: int
    rate: float
    stored: int
    late_s: float
    relay_bytes: list[int]
    relay_cpu: float
    server_cpu: float

    @property
    def growth(self) -> int:
        third = len(self.relay_bytes) // 3
        return max(self.relay_bytes[third:]) - self.relay_bytes[third]


def measure(rate: int, seconds: float, sync: str, outage_s: float) -> Measured:
    """Return what a run has shown."""
    ours, theirs = multiprocessing.Pipe()
    publishing = multiprocessing.get_context("spawn").Process(target=publish, args=(rate, seconds, theirs))
    with Cluster() as bus, TemporaryDirectory() as folder:
        if sync != "always":
            configuration = bus.nodes[0].configuration
            bus.nodes[0].kill()
            configuration.write_text(configuration.read_text().replace("sync_interval: always", f'sync_interval: "{sync}"'))
            bus.nodes[0].start()
            bus.wait_ready()
        publishing.start()
        endpoint, answers = ours.recv()
        words = ["relay", "--to", bus.url(), "--create", "--connect", endpoint, "--control", answers]
        said = Path(folder, "log")
        with said.open("w") as log:
            command = [sys.executable, "-m", "mertd", *words, "--cursor", f"{folder}/place"]
            relaying = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: "relaying" in said.read_text(), PATIENCE_S, said.read_text)
            time.sleep(1.0)  # its place is noted with the first status
            return asyncio.run(_watch(ours, bus, psutil.Process(relaying.pid), seconds / 3, outage_s))
        finally:
            relaying.terminate()
            relaying.wait()
            print(said.read_text(), end="")
            ours.send("end")
            publishing.join()


async def _watch(ends: Any, bus: Cluster, relaying: psutil.Process, until_s: float, outage_s: float) -> Measured:
    server = psutil.Process(bus.nodes[0]._process.pid)  # type: ignore[union-attr]
    sizes: list[int] = []
    ends.send("go")
    client = await nats.connect(bus.urls()[0])
    before = [sum(one.cpu_times()[:2]) for one in (relaying, server)]
    begin = time.monotonic()
    last: deque[int] = deque([0], 1)
    while not ends.poll():
        sizes.append(relaying.memory_info().rss)
        if outage_s and time.monotonic() > begin + until_s:
            bus.nodes[0].kill() if time.monotonic() < begin + until_s + outage_s else bus.nodes[0].start()
        await asyncio.sleep(0.25)
    sent, took = ends.recv()
    over = time.monotonic()
    if outage_s:
        bus.wait_ready()
        server, before = psutil.Process(bus.nodes[0]._process.pid), [before[0], 0.0]  # type: ignore[union-attr]
    after = [sum(one.cpu_times()[:2]) for one in (relaying, server)]
    while time.monotonic() < over + 30:
        try:
            last.append((await client.jetstream().stream_info("mertd")).state.messages)
        except nats.js.errors.NotFoundError:
            await asyncio.sleep(0.1)
        if last[0] >= sent:
            break
        await asyncio.sleep(0.01)
    late = time.monotonic() - over
    await client.close()
    relay_cpu, server_cpu = ((b - a) / (over - begin) for a, b in zip(before, after, strict=True))
    return Measured(sent, sent / took, last[0], late, sizes, relay_cpu, server_cpu)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--sync", default="always", help="sync_interval of the server")
    parser.add_argument("--outage", type=float, default=0, help="seconds without a server in the middle")
    given = parser.parse_args()
    found = measure(given.rate, given.seconds, given.sync, given.outage)
    shown = {name: value for name, value in vars(found).items() if name != "relay_bytes"}
    print(json.dumps({**shown, "relay_mb": max(found.relay_bytes) / 1e6, "growth_mb": found.growth / 1e6}, indent=1))
    if given.outage:
        sys.exit(found.growth > GROWTH_BYTES)
    sys.exit(found.stored != found.sent or found.late_s > LATE_S or found.growth > GROWTH_BYTES)
