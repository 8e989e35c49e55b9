"""Kill the process that remembers at random moments, and compare the memory with what was published and what was acknowledged.

python tests/memory/kills.py --kills 1000
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from command_process import PATIENCE_S, wait_until
from memory.publishing import Station, on_air, station
from memory.stored import key
from mertd.memory import store as store_module
from mertd.memory.checking import verify
from mertd.memory.follower import Follower
from mertd.memory.following import Following, Source
from mertd.memory.memory import Memory
from mertd.memory.queries import Selection
from mertd.wire import Embedding, Event
from working_thread import working

PAUSE_S = 0.002
"""Seconds between two messages."""

LONGEST_LIFE_S = 0.1
"""Seconds that a process lives at most before it is killed: half of them from their start, half of them from their first
transaction.
"""

FIRST_S = 60.0
"""Seconds that a process may take to its first transaction."""

MAX_FILE = 300_000
"""Bytes after which another file begins: so small that kills also hit the change of files."""


SELECTION = Selection()
"""Everything."""


class Acknowledging(Follower):
    """Tells through a pipe, after each transaction, how much of each kind is stored."""

    def __init__(self, following: Following, pipe: int, started: int) -> None:
        super().__init__(following, threading.Event())
        self._pipe = pipe
        self._started = started

    def _append(self, batch: list[Embedding | Event], subscriber: Source) -> bool:
        appended = super()._append(batch, subscriber)
        for run in self._store.cursor().values():
            line = f"{run['embedding', 'room']} {run['event', 'room']}\n"
            os.write(self._pipe, line.encode())
        os.write(self._started, b".")
        return appended


def remember(following: Following, pipe: int, started: int) -> None:
    """The process that is killed: forked, so that it starts at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    store_module.MAX_FILE = MAX_FILE
    store_module.Store.__init__.__defaults__ = (MAX_FILE, store_module.MAX_FILE_AGE_S)
    Acknowledging(following, pipe, started).run()


def forker(following: Following, kills: int, seed: int, pipe: int) -> None:
    """Start the process and kill it, again and again. A process of its own, without threads, because it forks."""
    chance = random.Random(seed)
    for number in range(kills):
        stored, started = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                remember(following, pipe, started)
            except BaseException:  # noqa: BLE001 - said here, as this process ends like no other
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(99)  # it never ends by itself
        os.close(started)
        if number % 2 == 0:
            select.select([stored], [], [], FIRST_S)
        time.sleep(chance.random() * LONGEST_LIFE_S)
        os.kill(child, signal.SIGKILL)
        _, ended = os.waitpid(child, 0)
        os.close(stored)
        if not os.WIFSIGNALED(ended):
            os._exit(1)
    os._exit(0)


def run(kills: int, folder: Path, seed: int) -> str:
    """Fails if a message is missing that was acknowledged, if one is there twice, or if the memory is not whole."""
    reading, writing = os.pipe()
    # The child of the fork must know the endpoints, which are bound only in this process, behind the fork.
    to_child, from_parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(from_parent)
        endpoint, control = os.read(to_child, 1_000).decode().split()
        forker(Following(folder, (endpoint,), (control,)), kills, seed, writing)
    os.close(writing)
    acknowledged = [0, 0]

    def read() -> None:
        with os.fdopen(reading) as lines:
            for line in lines:
                acknowledged[:] = [max(pair) for pair in zip(acknowledged, map(int, line.split()), strict=True)]

    reader = threading.Thread(target=read)
    with station() as found:
        reader.start()
        os.write(from_parent, f"{found.endpoint} {found.control}".encode())
        with on_air(found, PAUSE_S):
            _, ended = os.waitpid(child, 0)
        assert ended == 0, "a process ended before it was killed"
        reader.join()
        os.close(to_child)
        os.close(from_parent)
        assert acknowledged[0] > 0, "nothing was ever stored"
        after_kills = {kind: numbers(folder, kind) for kind in ("embedding", "event")}
        for kind, end in zip(("embedding", "event"), acknowledged, strict=True):
            missing = set(range(end)) - set(after_kills[kind]) - in_holes(folder, kind)
            assert not missing, f"{kind}s that were acknowledged are missing: {sorted(missing)[:10]}"
        catch_up(Following(folder, (found.endpoint,), (found.control,)), found)
        stored = Counter(key(m) for m in Memory(folder).messages(("embedding", "event"), SELECTION))
        sent = {key(message) for message in found.sent}
    assert max(stored.values()) == 1, "a message is there twice"
    holes = Memory(folder).holes()
    missing_count = len(sent - set(stored))
    assert missing_count == sum((hole.end or 0) - hole.first for hole in holes)
    assert set(stored) <= sent
    report = verify(folder)
    assert report.faults == [], report.faults
    files = len(list(folder.glob("*.sqlite")))
    return f"{kills} kills, {len(sent)} messages, {sum(acknowledged)} acknowledged, {missing_count} in holes, {files} files"


def numbers(folder: Path, kind: str) -> list[int]:
    return [message.seq for message in Memory(folder).messages((kind,), SELECTION)]


def in_holes(folder: Path, kind: str) -> set[int]:
    return {seq for hole in Memory(folder).holes() if hole.kind == kind for seq in range(hole.first, hole.end or 0)}


def catch_up(following: Following, found: Station) -> None:
    """Remember until all that was published is stored, or known to be missing."""

    def known(kind: str) -> int:
        return len({*numbers(following.folder, kind)} | in_holes(following.folder, kind))

    def is_complete() -> bool:
        found.status()
        return all(known(kind) == end for kind, end in found.ends)

    def incomplete() -> str:
        return ", ".join(f"{known(kind)} of {end} of kind {kind} are known" for kind, end in found.ends)

    stopping = threading.Event()
    follower = Follower(following, stopping)
    with working(follower.run, stopping):
        wait_until(is_complete, PATIENCE_S, incomplete)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    # An index may still be written while the directory is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        print(run(given.kills, Path(folder) / "memory", given.seed))
    sys.exit(0)


if __name__ == "__main__":
    main()
