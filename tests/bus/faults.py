"""Break everything between daemons and those who read what they published, at random: nothing is lost, nothing comes twice.

Two rooms: real daemons that compute, each with a memory that holds a day from before, and a relay that was away for it. A
cluster of three servers, every link of which can be broken. Two readers: a client of the library, and `mertd remember --from`.
Faults: SIGKILL of servers, relays and readers; servers that stop for seconds; partitions between servers, and between them and
their clients, that stall, swallow or refuse. Meanwhile one relay is cut off for longer than its daemon's run lasts: what it
missed then comes from the daemon's memory. At last messages expire before they were read: those are holes, and announced.

In the end what each reader has is compared with the memories of the daemons: each message once, in order, every hole known.

Run: PYTHONPATH=tests python tests/bus/faults.py [--faults 200] [--interval 0.2] [--day 1000] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nats
import numpy as np
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import ServiceUnavailableError

from bus.cluster import Cluster, Fault
from command_process import PATIENCE_S
from daemon_process import TINY, Daemon
from memory.kills import SELECTION
from mertd.bus.message_id import HEADER, MessageId, parse_id
from mertd.memory.checking import verify
from mertd.memory.memory import Memory
from mertd.memory.store import Store
from mertd.wire import Embedding, Event, Time
from messages import embedding, event

SETTLE_S = 90.0
"""Seconds within which everything must have come once all is healed."""

POLL_S = 0.25
"""Seconds between two looks at what has come."""

HOP_NS = 5_000_000_000
"""Nanoseconds between two windows of the day before."""

PROGRESS_EVERY = 50
"""Faults after which all is healed, until the readers have got on."""

EXPIRED = 30
"""Messages that expire before they are read, at least."""

ACKNOWLEDGED = 20
"""Messages after which the client acknowledges: so many may come again when it was killed, and no other."""

CLIENT = """
import sys, mertd
url, cursor, out, every = sys.argv[1:]
kinds = ("embedding", "event")
with open(out, "ab", buffering=0) as file, mertd.subscribe(url, kinds=kinds, cursor=cursor, since=0, mix_spaces=True) as bus:
    file.write(b"begun\\n")
    waiting = 0
    while True:
        received = bus.receive(0.2)
        if received is not None:
            m = received.message
            file.write(f"{m.daemon} {m.kind} {m.stream} {m.boot.hex()} {m.seq} {received.lost}\\n".encode())
            waiting += 1
        if waiting and (received is None or waiting == int(every)):
            bus.acknowledge()
            file.write(b"done\\n")
            waiting = 0
"""

Key = tuple[str, str, str, str]
"""Daemon, kind, stream and run."""


class Room:
    """A daemon with its memory, which can be started again."""

    def __init__(self, name: str, folder: Path, day: int) -> None:
        self.name, self.memory = name, folder / f"{name}-memory"
        self.endpoints = (f"ipc://{folder}/{name}/publish", f"ipc://{folder}/{name}/control")
        self._stack = ExitStack()
        fill(self.memory, name, day)

    def start(self) -> None:
        sources = ["--source", "synth:chords?name=room", "--source", "synth:chords?name=bar"]
        options = ["--name", self.name, *sources, *TINY, "--window", "1", "--hop", "0.25"]
        daemon = Daemon(*options, "--remember", "--memory", self.memory, endpoints=self.endpoints)
        self.daemon = self._stack.enter_context(daemon)
        self.daemon.until(lambda s: s.streams["room"]["embedded"] > 0 and s.processes["memory"]["state"] == "healthy")

    def stop(self) -> None:
        self.daemon.process.terminate()
        self.daemon.exits(0)  # other tests hold it to five seconds, on processors that do not do all this
        self._stack.close()

    def kill(self) -> None:
        """End it after a failure, which is told instead of what is left behind."""
        with suppress(AssertionError):
            self._stack.close()

    def truth(self) -> list[Embedding | Event]:
        return list(Memory(self.memory).messages(("embedding", "event"), SELECTION))


def fill(folder: Path, name: str, count: int) -> None:
    """Remember a day of a daemon, in two runs."""
    vectors = np.random.default_rng(0).standard_normal((64, 1, 768)).astype(np.float32)
    start_ns = time.time_ns() - (count + 1) * HOP_NS
    with Store(folder) as store:
        for run in range(2):
            boot, half = os.urandom(16), count // 2
            for first in range(0, half, 500):
                seqs = range(first, min(half, first + 500))
                times = [start_ns + (run * half + seq) * HOP_NS for seq in seqs]
                facts = {"boot": boot, "daemon": name}
                store.append(
                    embedding(seq, vector=vectors[seq % 64], time=Time(at, at + 6 * HOP_NS, 0, 0.0), **facts)
                    for seq, at in zip(seqs, times, strict=True)
                )
                store.append(event(seq, time_ns=at, **facts) for seq, at in zip(seqs, times, strict=True) if seq < half // 20)


class Worker:
    """A process that is killed and started again."""

    def __init__(self, name: str, words: list[object], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._words = [sys.executable, *map(str, words)]
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> None:
        if self._process is None:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.kills += 1

    def check(self) -> None:
        """Fail if it has ended by itself, or shows a traceback."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        assert self._process is None or self._process.poll() is None, f"{self.name} has ended:\n{text[-3_000:]}"
        assert "Traceback" not in text, f"{self.name}:\n{text[-3_000:]}"

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self.check()
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} does not stop") from None
            self._process = None


@dataclass
class Reader:
    """What one reader has: the `seq`s of each run, and those that it has announced as lost."""

    came: dict[Key, list[int]] = field(default_factory=dict)
    lost: dict[Key, set[int]] = field(default_factory=dict)
    repeated: int = 0

    def known(self) -> int:
        return sum(map(len, self.came.values())) + sum(map(len, self.lost.values()))

    def has(self, key: Key, seq: int) -> bool:
        return seq in self._sets.get(key, ()) or seq in self.lost.get(key, ())

    def index(self) -> None:
        self._sets = {key: set(seqs) for key, seqs in self.came.items()}


def read_client(out: Path) -> Reader:
    """Return what the client has written. Fails for what came twice, or out of order."""
    reader = Reader()
    recent: set[tuple[Key, int]] = set()  # not acknowledged, and so what may come again
    again: set[tuple[Key, int]] = set()
    for line in out.read_text().splitlines() if out.exists() else ():
        if line == "begun":
            again = again | recent
            continue
        if line == "done":
            recent, again = set(), set()
            continue
        *names, seq, lost = line.split()
        key, number = (names[0], names[1], names[2], names[3]), int(seq)
        came = reader.came.setdefault(key, [])
        recent.add((key, number))
        if came and number <= came[-1]:
            assert (key, number) in again, f"the client got {key} {number} twice, or out of order, behind {came[-1]}"
            reader.repeated += 1
            continue
        for gone in range(number - int(lost), number):
            reader.lost.setdefault(key, set()).add(gone)
        assert not came or number == came[-1] + int(lost) + 1, f"{key}: {number} came behind {came[-1]}, {lost} lost"
        came.append(number)
    reader.index()
    return reader


def read_memory(folder: Path) -> Reader:
    """Return what a memory holds."""
    reader = Reader()
    if not list(folder.glob("*.sqlite")):
        reader.index()
        return reader
    memory = Memory(folder)
    for message in memory.messages(("embedding", "event"), SELECTION):
        reader.came.setdefault(key_of(message), []).append(message.seq)
    for seqs in reader.came.values():
        seqs.sort()
        assert len(set(seqs)) == len(seqs), "a message is there twice"
    for hole in memory.holes():
        if hole.end is not None:
            key = (hole.source.daemon, hole.kind, hole.source.stream, hole.source.boot.hex())
            reader.lost.setdefault(key, set()).update(range(hole.first, hole.end))
    reader.index()
    return reader


def key_of(message: Embedding | Event) -> Key:
    return (message.daemon, message.kind, message.stream, message.boot.hex())


class Run:
    """Everything that runs, and what is to be mended when."""

    def __init__(self, bus: Cluster, rooms: list[Room], folder: Path, chance: random.Random) -> None:
        self.bus, self.rooms, self.chance = bus, rooms, chance
        self.out, self.remembered = folder / "out", folder / "remembered"
        self.relays = [self._relay(room, folder) for room in rooms]
        url = bus.url("client")
        client = ["-c", CLIENT, url, folder / "client.cursor", self.out, ACKNOWLEDGED]
        self.readers = [
            Worker("client", client, folder),
            Worker("remember", ["-m", "mertd", "remember", "--from", bus.url("remember"), "--memory", self.remembered], folder),
        ]
        self.workers = [*self.relays, *self.readers]
        self.done: Counter[str] = Counter()
        self._mending: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.held: set[str] = set()  # clients that stay cut off when all is healed

    def _relay(self, room: Room, folder: Path) -> Worker:
        words = [
            "-m",
            "mertd",
            "relay",
            "--to",
            self.bus.url(f"relay-{room.name}"),
            "--since",
            "30d",
            "--create",
            "--replicas",
            "3",
        ]
        ends = ["--connect", room.endpoints[0], "--control", room.endpoints[1], "--cursor", folder / f"{room.name}.cursor"]
        return Worker(f"relay-{room.name}", [*words, *ends], folder)

    def later(self, seconds: float, mend: Callable[[], None]) -> None:
        heapq.heappush(self._mending, (time.monotonic() + seconds, next(self._numbers), mend))

    def wait(self, seconds: float) -> None:
        """Let it run, and mend what is due."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            while self._mending and self._mending[0][0] <= now:
                heapq.heappop(self._mending)[2]()
            if now >= until:
                return
            due = self._mending[0][0] if self._mending else until
            time.sleep(max(0.0, min(until, due) - now))

    def heal(self) -> None:
        """Mend everything at once."""
        self._mending.clear()
        self.bus.heal()
        for name in self.held:
            self.bus.client(name).drop(Fault.SWALLOW)
        for node in self.bus.nodes:
            node.kill(signal.SIGCONT) if node.is_running else None
            node.start()
        for worker in self.workers:
            worker.start()

    def fault(self) -> None:
        """Break something, for a while."""
        kind, weight = zip(*FAULTS.items(), strict=True)
        (chosen,) = self.chance.choices(kind, [w for w, _ in weight])
        self.done[chosen] += 1
        FAULTS[chosen][1](self)

    def kill_server(self) -> None:
        node = self.chance.choice(self.bus.nodes)
        node.kill()
        self.later(self.chance.uniform(0.0, 1.5), node.start)

    def stop_server(self) -> None:
        node = self.chance.choice(self.bus.nodes)
        if node.is_running:
            node.kill(signal.SIGSTOP)
            self.later(self.chance.uniform(0.1, 2.5), lambda: node.kill(signal.SIGCONT) if node.is_running else None)

    def kill_worker(self, among: list[Worker]) -> None:
        worker = self.chance.choice(among)
        worker.check()
        worker.kill()
        self.later(self.chance.uniform(0.0, 0.6), worker.start)

    def part_servers(self) -> None:
        one, other = self.chance.sample(range(len(self.bus.nodes)), 2)
        links = self.chance.choice([self.bus.around(one), self.bus.between(one, other)])
        links.drop(self.chance.choice(list(Fault)))
        self.later(self.chance.uniform(0.2, 3.0), links.heal)

    def cut_client(self) -> None:
        name = self.chance.choice(
            [name for name in ("client", "remember", *(w.name for w in self.relays)) if name not in self.held]
        )
        links = self.bus.client(name, self.chance.choice([None, 0, 1, 2]))
        links.drop(self.chance.choice(list(Fault)))
        self.later(self.chance.uniform(0.2, 3.0), lambda: None if name in self.held else links.heal())

    def until(self, condition: Callable[[], bool], why: Callable[[], str], limit_s: float = SETTLE_S) -> float:
        """Wait; return how many seconds it took."""
        began = time.monotonic()
        while not condition():
            for worker in self.workers:
                worker.check()
            if time.monotonic() - began > limit_s:
                logs = "\n".join(
                    f"{w.name}: {w.log.read_text(errors='replace')[-1_500:]}" for w in self.workers if w.log.exists()
                )
                raise AssertionError(f"{why()}\n{logs}")
            self.wait(POLL_S)
        return time.monotonic() - began

    def readers_now(self) -> dict[str, Reader]:
        return {"client": read_client(self.out), "memory": read_memory(self.remembered)}

    def progress(self) -> float:
        """Heal everything, and wait until both readers have got on."""
        self.heal()
        before = {name: reader.known() for name, reader in self.readers_now().items()}
        return self.until(
            lambda: all(reader.known() > before[name] for name, reader in self.readers_now().items()),
            lambda: f"the readers do not get on: {before}, now { {n: r.known() for n, r in self.readers_now().items()} }",
        )

    def arrived(self) -> float:
        """Wait until both readers have everything that the daemons have remembered by now."""
        wanted = [(key_of(m), m.seq) for room in self.rooms for m in room.truth()]

        def missing(reader: Reader) -> list[tuple[Key, int]]:
            return [one for one in wanted if not reader.has(*one)]

        return self.until(
            lambda: all(not missing(reader) for reader in self.readers_now().values()),
            lambda: f"missing: { {n: [len(missing(r)), *missing(r)[:5]] for n, r in self.readers_now().items()} }",
        )

    def expire(self) -> int:
        """Cut both readers off, let messages expire that they have not read, and mend it. Return how many that were."""
        for name in ("client", "remember"):
            self.held.add(name)
            self.bus.client(name).drop(Fault.SWALLOW)
        first = asyncio.run(state(self.bus))[1]
        self.until(lambda: asyncio.run(state(self.bus))[1] >= first + 2 * EXPIRED, lambda: "the relays publish nothing")
        asyncio.run(purge(self.bus, first + EXPIRED))
        self.held.clear()
        self.heal()
        return EXPIRED


FAULTS: dict[str, tuple[float, Callable[[Run], None]]] = {
    "servers killed": (4, Run.kill_server),
    "servers stopped for a while": (2, Run.stop_server),
    "relays killed": (3, lambda run: run.kill_worker(run.relays)),
    "readers killed": (4, lambda run: run.kill_worker(run.readers)),
    "partitions between servers": (3, Run.part_servers),
    "clients cut off": (4, Run.cut_client),
}
"""What can happen: how often, in proportion, and how."""


async def state(bus: Cluster) -> tuple[int, int]:
    """Return the numbers of the first message of the stream and of the last."""
    async with connected(bus) as client:
        found = (await client.jetstream(timeout=PATIENCE_S).stream_info("mertd")).state
        return found.first_seq, found.last_seq


async def purge(bus: Cluster, before: int) -> None:
    async with connected(bus) as client:
        await client.jetstream(timeout=PATIENCE_S).purge_stream("mertd", seq=before)


class connected:  # noqa: N801 - as a function
    """A client that no link of the test lies before."""

    def __init__(self, bus: Cluster) -> None:
        self._bus = bus

    async def __aenter__(self) -> nats.NATS:
        self._client = await nats.connect(self._bus.urls())
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def on_bus(bus: Cluster) -> list[MessageId]:
    """Return the identities of all messages of the stream, in its order."""
    async with connected(bus) as client:
        jetstream = client.jetstream(timeout=PATIENCE_S)
        left = (await jetstream.stream_info("mertd")).state.messages
        config = ConsumerConfig(name="judge", deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, mem_storage=True)
        await jetstream.add_consumer("mertd", config)
        judge = await jetstream.pull_subscribe_bind(consumer="judge", stream="mertd")
        found: list[MessageId] = []
        deadline = time.monotonic() + PATIENCE_S
        while left > 0:
            try:
                batch = await judge.fetch(min(256, left), timeout=PATIENCE_S)
            except ServiceUnavailableError:  # its consumer has no leader for a moment
                assert time.monotonic() < deadline, "the bus serves no new consumer"
                await asyncio.sleep(POLL_S)
                continue
            left -= len(batch)
            ids = [parse_id((message.headers or {})[HEADER]) for message in batch]
            found += [one for one in ids if isinstance(one, MessageId)]
        return found


def judge(run: Run) -> str:
    """Compare what the readers have with what the daemons remember."""
    for worker in run.workers:
        worker.stop()
    readers = run.readers_now()
    truth: dict[tuple[Key, int], Embedding | Event] = {}

    def is_remembered() -> bool:
        truth.update({(key_of(m), m.seq): m for room in run.rooms for m in room.truth()})
        return all((key, seq) in truth for reader in readers.values() for key, seqs in reader.came.items() for seq in seqs)

    run.until(is_remembered, lambda: "readers have what no daemon remembers")  # a daemon stores a moment later than it sends
    for name, reader in readers.items():
        lost = {(key, seq) for key, seqs in reader.lost.items() for seq in seqs}
        came = {(key, seq) for key, seqs in reader.came.items() for seq in seqs}
        assert not lost & came, f"{name} announces as lost what it has"
        for key, seqs in reader.came.items():
            whole = sorted({*seqs, *reader.lost.get(key, ())})
            assert whole == list(range(whole[-1] + 1)), f"{name} has a hole in {key} that it does not announce"
    remembered = {(key_of(m), m.seq): m for m in Memory(run.remembered).messages(("embedding", "event"), SELECTION)}
    for one, message in remembered.items():
        same = truth[one]
        if isinstance(message, Embedding) and isinstance(same, Embedding):
            assert (message.vector == same.vector).all(), f"{one} has another vector"
            assert message.time == same.time
        else:
            assert message == same
    assert verify(run.remembered).faults == []
    ids = asyncio.run(on_bus(run.bus))
    twice = sum(count - 1 for count in Counter(map(str, ids)).values())
    last: dict[tuple[bytes, str, str], int] = {}
    for one in ids:
        run_of = (one.boot, one.kind, one.stream)
        assert one.seq > last.get(run_of, -1), f"on the bus, {one} stands behind {last[run_of]}"
        last[run_of] = one.seq
    there = {(one.kind, one.stream, one.boot.hex(), one.seq) for one in ids}
    for name, reader in readers.items():  # one of them may have read a message more before it was cut off
        early = [(key, seq) for key, seqs in reader.lost.items() for seq in seqs if (*key[1:], seq) in there]
        assert not early, f"{name} announces as lost what the bus has: {early}"
    lost = sum(map(len, readers["client"].lost.values()))
    return (
        f"{len(remembered):,} messages of {len(truth):,} in both readers, {lost} expired and announced, none lost; "
        f"{twice} twice on the bus; {readers['client'].repeated} came again that were not acknowledged"
    )


@contextmanager
def everything(folder: Path, day: int, chance: random.Random) -> Iterator[Run]:
    rooms = [Room(name, folder, day) for name in ("kitchen", "attic")]
    with Cluster(3, links=True) as bus:
        run = Run(bus, rooms, folder, chance)
        try:
            for room in rooms:
                (folder / room.name).mkdir(mode=0o700)
                room.start()
            run.heal()
            yield run
        except BaseException:
            for worker in run.workers:
                worker.kill()
            for room in rooms:
                room.kill()
            raise
        for room in rooms:
            room.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--interval", type=float, default=0.2, help="seconds between two faults")
    parser.add_argument("--day", type=int, default=1_000, help="windows that each daemon remembers from before")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    chance = random.Random(given.seed)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mertd-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        run = stack.enter_context(everything(Path(folder), given.day, chance))
        say("two daemons, two relays, three servers and two readers run")
        away = run.relays[0].name
        for number in range(1, given.faults + 1):
            if number == given.faults * 2 // 5:
                run.held.add(away)
                run.bus.client(away).drop(Fault.SWALLOW)
            if number == given.faults // 2:
                run.rooms[0].stop()
                run.rooms[0].start()
                say("the daemon of the relay that is cut off was started again")
            if number == given.faults * 3 // 5:
                run.held.discard(away)
            run.fault()
            run.wait(given.interval)
            if number % PROGRESS_EVERY == 0:
                seconds = run.progress()
                known = {name: reader.known() for name, reader in run.readers_now().items()}
                say(f"{number} faults; healed, and the readers got on after {seconds:.1f} s: {known}")
        run.heal()
        say(f"all is healed; everything had come after {run.arrived():.1f} s")
        run.expire()
        say(f"messages expired before they were read; everything had come after {run.arrived():.1f} s")
        say(judge(run))
    kinds = ", ".join(f"{count} {what}" for what, count in run.done.most_common())
    say(f"{run.done.total()} faults: {kinds}")


if __name__ == "__main__":
    main()
