"""A client that was away for a week catches up from a daemon's memory, is killed again and again meanwhile, and misses nothing.

Run: PYTHONPATH=tests python tests/soak/away.py [--embeddings 120960] [--kills 10]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from command_process import PATIENCE_S, wait_until
from daemon_process import TINY, Daemon
from memory.stored import BOOTS
from mertd.memory.store import Store
from mertd.stream.client.cursor_file import CursorFile
from mertd.stream.client.past import Place
from mertd.wire import Time
from messages import DAEMON, embedding, event

HOP_NS = 5_000_000_000
"""Nanoseconds between two windows of the week."""

EVENT_EVERY = 50
"""Windows to an event."""

RUNS = 3
"""Runs of the daemon in the week."""

BATCH = 2_000
"""Windows that are stored at once."""

LIVE = 20
"""Windows of the running daemon that the client must have, too."""

CLIENT = """
import sys, mertd
endpoint, control, cursor, out = sys.argv[1:]
with open(out, "ab", buffering=0) as file:
    for m in mertd.subscribe(endpoint, kinds=("embedding", "event"), control=control, cursor=cursor, mix_spaces=True):
        file.write(f"{m.kind} {m.boot.hex()} {m.seq}\\n".encode())
"""


@dataclass(frozen=True)
class Outcome:
    """What the client got. `repeated`: messages that came again after a kill. `seconds`: until all of the week had come."""

    messages: int
    repeated: int
    kills: int
    seconds: float


def fill(folder: Path, count: int) -> dict[str, int]:
    """Remember a week of a daemon, in several runs. Return how many messages of each kind each run has."""
    vectors = np.random.default_rng(0).standard_normal((64, 1, 768)).astype(np.float32)
    start_ns = time.time_ns() - count * HOP_NS
    per_run = count // RUNS
    with Store(folder) as store:
        for run, boot in enumerate(BOOTS[:RUNS]):
            messages = (
                message
                for seq in range(per_run)
                for at_ns in [start_ns + (run * per_run + seq) * HOP_NS]
                for message in (
                    embedding(seq, boot=boot, vector=vectors[seq % 64], time=Time(at_ns, at_ns + 6 * HOP_NS, 1_000, 0.0)),
                    *([event(seq // EVENT_EVERY, boot=boot, time_ns=at_ns)] if seq % EVENT_EVERY == 0 else []),
                )
            )
            while batch := list(islice(messages, BATCH)):
                store.append(batch)
    return {"embedding": per_run, "event": -(-per_run // EVENT_EVERY)}


def run(folder: Path, count: int, kills: int, chance: random.Random) -> Outcome:
    """Fails if a message is missing, or out of order, or comes again though it was long done."""
    memory, cursor, out = folder / "memory", folder / "cursor", folder / "out"
    sizes = fill(memory, count)
    options = ["--name", DAEMON, "--source", "synth:chords?name=room", *TINY, "--window", "1", "--hop", "0.25"]
    with Daemon(*options, "--remember", "--memory", memory) as daemon:
        daemon.until(lambda s: s.streams["room"]["embedded"] > 0 and s.processes["memory"]["state"] == "healthy")
        kept = CursorFile(cursor)  # the client was there when the week began
        for kind in sizes:
            kept.expect(daemon.publish, (kind, "room"), Place(BOOTS[0], 0))
        kept.meet(daemon.publish, DAEMON)
        kept.close()
        out.touch()
        week = RUNS * sum(sizes.values())
        began = time.monotonic()
        limit_s = PATIENCE_S + week / 200
        for kill_at in [*sorted(chance.randrange(week) for _ in range(kills)), None]:
            target = week + LIVE if kill_at is None else kill_at
            enough = partial(has_more, out, target)
            client = [sys.executable, "-c", CLIENT, daemon.publish, daemon.control, str(cursor), str(out)]
            with subprocess.Popen(client) as process:
                try:
                    wait_until(enough, limit_s, lambda: f"the client has {different(out)} of {week} messages")
                finally:
                    process.kill()
        seconds = time.monotonic() - began
    return check(out, sizes, kills, seconds)


def has_more(out: Path, count: int) -> bool:
    return different(out) > count


def different(out: Path) -> int:
    """Return how many different messages the client has written so far, those that came again not counted."""
    return len(set(out.read_bytes().splitlines()))


def check(out: Path, sizes: dict[str, int], kills: int, seconds: float) -> Outcome:
    came: dict[str, list[tuple[str, int]]] = {kind: [] for kind in sizes}
    repeated = 0
    for line in out.read_text().splitlines():
        kind, boot, seq = line.split()
        place = (boot, int(seq))
        if place in came[kind][-1_000:]:  # after a kill it begins a little earlier
            repeated += 1
            continue
        came[kind].append(place)
    for kind, size in sizes.items():
        week = [(boot.hex(), seq) for boot in BOOTS[:RUNS] for seq in range(size)]
        assert came[kind][: len(week)] == week, f"{kind}s are missing or out of order"
        live = came[kind][len(week) :]
        assert len({boot for boot, _ in live}) <= 1
        assert [seq for _, seq in live] == list(range(len(live))), f"{kind}s of the running daemon"
    return Outcome(sum(map(len, came.values())), repeated, kills, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", type=int, default=120_960)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mertd-") as folder:
        found = run(Path(folder), given.embeddings, given.kills, random.Random(given.seed))
    print(
        f"{found.messages:,} messages in order, each once but for {found.repeated} that came again after {found.kills} kills; "
        f"{found.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
