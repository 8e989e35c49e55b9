"""Kill the memory's process, and whole daemons, at random moments: nothing acknowledged is missing, nothing is there twice.

Run: PYTHONPATH=tests python tests/soak/memory_kills.py [--kills 1000] [--daemons 100]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from command_process import PATIENCE_S, wait_until
from memory import kills
from memory.stored import key
from mertd.errors import StoreError
from mertd.memory.checking import verify
from mertd.memory.memory import Memory

OPTIONS = ["--source", "synth:chords", "--weights", "random:0?size=tiny", "--layers", "2", "--window", "1", "--hop", "0.25"]

LONGEST_LIFE_S = 2.0
"""Seconds that a daemon lives at most after its first vector was stored."""


def stored(folder: Path) -> Counter[tuple[object, ...]]:
    if not list(folder.glob("*.sqlite")):
        return Counter()
    return Counter(key(message) for message in Memory(folder).messages(("embedding", "event"), kills.SELECTION))


def daemons(count: int, folder: Path, chance: random.Random) -> str:
    """Kill daemons with all their processes; what a reader has seen before must be there afterwards."""
    seen: Counter[tuple[object, ...]] = Counter()
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    memory = folder / "memory"
    for number in range(count):
        ends = ["--bind", f"ipc://{runtime}/p", "--control", f"ipc://{runtime}/c"]
        command = [sys.executable, "-m", "mertd", "run", *OPTIONS, *ends, "--remember", "--memory", str(memory)]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
        before = sum(seen.values())
        said = folder / "log"
        with (
            said.open("wb") as errors,
            subprocess.Popen(command, stderr=errors, start_new_session=True, env=environment) as daemon,
        ):
            try:
                if number % 2 == 0:  # the others are killed while they start
                    wait_for_more(memory, before + 4, said)
                time.sleep(chance.random() * LONGEST_LIFE_S)
                acknowledged = stored(memory)
            finally:  # a wait that failed, too: it would otherwise run for ever
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        wait_until(lambda: not running(runtime), PATIENCE_S, lambda: "a process of the daemon lives on")
        seen = stored(memory)
        assert not acknowledged - seen, f"missing after kill {number}: {acknowledged - seen}"
        assert not seen or max(seen.values()) == 1, "a message is there twice"
        faults = verify(memory).faults if seen else []
        assert faults == [], faults
    reasons = Counter(hole.reason for hole in Memory(memory).holes())
    return f"{count} daemons killed, {sum(seen.values())} messages stored, holes by reason: {dict(reasons)}"


def wait_for_more(memory: Path, count: int, said: Path) -> None:
    def why() -> str:
        try:
            found = f"{len(list(Memory(memory).messages(('embedding', 'event'), kills.SELECTION)))} messages are there"
        except StoreError as error:
            found = f"a reader says: {error}"
        return f"the daemon stores nothing; {found}; it says:\n{said.read_text(errors='replace')[-3_000:]}"

    wait_until(lambda: sum(stored(memory).values()) > count, PATIENCE_S, why)


def running(runtime: Path) -> bool:
    """Return whether a process still has the runtime directory of the daemon in its environment."""
    mark = f"XDG_RUNTIME_DIR={runtime}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--daemons", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mertd-", ignore_cleanup_errors=True) as folder:
        print(kills.run(given.kills, Path(folder) / "memory", given.seed), flush=True)
    with tempfile.TemporaryDirectory(prefix="mertd-") as folder:
        print(daemons(given.daemons, Path(folder), random.Random(given.seed)), flush=True)


if __name__ == "__main__":
    main()
