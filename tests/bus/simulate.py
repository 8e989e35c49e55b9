"""Many streams into a real cluster of three servers on this machine, for docs/scale.md.

    PYTHONPATH=tests python tests/bus/simulate.py                          # 1,000 streams, hop 5 s, for half a minute
    PYTHONPATH=tests python tests/bus/simulate.py --speed 5                # five times as fast as real time
    PYTHONPATH=tests python tests/bus/simulate.py --speed 0                # as fast as it goes

Made vectors of layer 6 are written as relays write them, one relay for each daemon: what is due goes in one batch, and the
next one when that is acknowledged. Every server writes to the disk before it acknowledges (`sync_interval: always`). At the end
all that was written must be in the stream.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bus.cluster import Cluster, Node
from command_process import wait_until
from mertd.bus.bus_access import BusAccess, parse_servers
from mertd.bus.bus_batch import Relayed
from mertd.bus.bus_stream import STREAM, StreamWish
from mertd.bus.bus_writer import MAX_BATCH, BusWriter
from mertd.bus.relayed_message import decode_relayed
from mertd.wire import Embedding, Event, Time, encode
from messages import embedding

VECTORS = 64
"""Different vectors; bytes that repeat far apart are not compressed by anything here."""

SHOWN_S = 120.0
"""Seconds to wait until the monitoring page of a server shows all messages."""


@dataclass
class Load:
    """One daemon, and the relay that writes for it. Latencies are in seconds."""

    number: int
    streams: int
    hop_s: float  # between two windows of a stream, as the clock of this run has it; 0 for as fast as it goes
    writer: BusWriter
    written: int = 0
    batches: list[float] = field(default_factory=list)  # from sending a batch to its acknowledgement
    late: list[float] = field(default_factory=list)  # from when a window was due to its acknowledgement

    async def run(self, seconds: float, vectors: np.ndarray[Any, Any]) -> None:
        """Write for so long. Windows of the streams are due one after the other, at equal distances."""
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            due = self.written + MAX_BATCH
            if self.hop_s:
                due = min(due, int(elapsed / self.hop_s * self.streams))
            if due <= self.written:
                await asyncio.sleep(self.hop_s / self.streams)
                continue
            batch = [Relayed(self._window(place, vectors)) for place in range(self.written, due)]
            sent = time.perf_counter()
            await self.writer.write(batch)
            now = time.perf_counter()
            self.batches.append(now - sent)
            if self.hop_s:
                self.late += [now - began - place * self.hop_s / self.streams for place in range(self.written, due)]
            self.written = due
        await self.writer.disconnect()

    def _window(self, place: int, vectors: np.ndarray[Any, Any]) -> Embedding | Event:
        seq, stream = divmod(place, self.streams)
        now_ns = time.time_ns()
        facts = {
            "boot": bytes([self.number] * 16),
            "daemon": f"machine-{self.number}",
            "vector": vectors[place % VECTORS][None],
        }
        made = embedding(seq, f"room-{stream}", time=Time(now_ns - 30_000_000_000, now_ns, 2_000_000, 1.5), **facts)
        taken = decode_relayed(encode(made))  # as a relay gets it from the daemon
        assert isinstance(taken, Embedding | Event)
        return taken


async def simulate(bus: Cluster, given: argparse.Namespace) -> tuple[list[Load], float]:
    """Write, and return what each daemon has written, and how many seconds it took."""
    access = BusAccess(parse_servers(bus.url()))
    vectors = np.random.default_rng(3).standard_normal((VECTORS, 768)).astype(np.float32)
    wish = StreamWish(create=True, replicas=3 if given.servers > 1 else 1)
    hop_s = given.hop / given.speed if given.speed else 0.0
    size = given.streams // given.daemons
    loads = [Load(n, size, hop_s, BusWriter(access, wish, f"machine-{n}")) for n in range(given.daemons)]
    await loads[0].writer.connect()  # makes the stream
    began = time.perf_counter()
    await asyncio.gather(*(load.run(given.seconds, vectors) for load in loads))
    return loads, time.perf_counter() - began


def report(bus: Cluster, loads: list[Load], took_s: float, own_s: float) -> None:
    """Print what was measured. Fails unless each server has all messages."""
    written = sum(load.written for load in loads)

    def kept() -> list[int]:
        return [_messages(node.ask("jsz?streams=true&accounts=true")) for node in bus.nodes]

    wait_until(lambda: kept() == [written] * len(bus.nodes), SHOWN_S, lambda: f"{written} were written; there are {kept()}")
    print(f"{written} messages in {took_s:.1f} s: {written / took_s:.0f} a second, all on each server")
    print(
        f"a batch of {written / sum(len(load.batches) for load in loads):.1f} is acknowledged after {_told(loads, 'batches')}"
    )
    if any(load.late for load in loads):
        print(f"a window is on the bus after it was due: {_told(loads, 'late')}")
    print(f"relays, all in this process: {own_s / took_s:.2f} of a core")
    for node in bus.nodes:
        process = _process_of(node)
        cpu, used = sum(process.cpu_times()[:2]), process.memory_info().rss / 1e6
        size = _bytes_in(bus.folder / node.name)
        print(
            f"{node.name}: {cpu / took_s:.2f} of a core, {used:.0f} MB of memory, {size / written:.0f} bytes of disk a message"
        )


def _process_of(node: Node) -> psutil.Process:
    (found,) = (child for child in psutil.Process().children() if str(node.configuration) in child.cmdline())
    return found


def _told(loads: list[Load], what: str) -> str:
    milliseconds = 1e3 * np.array([value for load in loads for value in getattr(load, what)])
    middle, high = np.percentile(milliseconds, [50, 99])
    return f"median {middle:.1f} ms, p99 {high:.1f}, most {milliseconds.max():.1f}"


def _messages(answer: Any) -> int:
    details = [stream for account in (answer or {}).get("account_details", []) for stream in account.get("stream_detail", [])]
    return sum(stream["state"]["messages"] for stream in details if stream["name"] == STREAM)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--daemons", type=int, default=4, help="that have these streams together")
    parser.add_argument("--hop", type=float, default=5.0, help="seconds")
    parser.add_argument("--speed", type=float, default=1.0, help="relative to real time; 0 for as fast as it goes")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--servers", type=int, choices=(1, 3), default=3)
    given = parser.parse_args()
    with Cluster(given.servers) as bus:
        own_s = time.process_time()
        loads, took_s = asyncio.run(simulate(bus, given))
        report(bus, loads, took_s, time.process_time() - own_s)


if __name__ == "__main__":
    main()
