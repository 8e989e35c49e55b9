"""Kill a process that forgets, at random moments: the memory stays whole, and the next attempt leaves nothing on the disk.

python tests/memory/forgetting_kills.py --kills 200
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from memory.stored import small, vector
from mertd.memory.checking import verify
from mertd.memory.forgetting import Scope, forget
from mertd.memory.half_floats import pack
from mertd.memory.memory import Memory
from mertd.memory.store import Store

COUNT = 160
"""Messages of each of two streams: some full files, and one that is being written."""

MAX_FILE = 300_000
"""Bytes after which another file begins."""

BEFORE_S = 500
"""What is older is forgotten: windows of 30 s, one every 5 s."""

FORGOTTEN = (BEFORE_S - 30) // 5 + 1
"""Messages that are then forgotten."""


def fill(folder: Path) -> None:
    with Store(folder, max_file=MAX_FILE) as store:
        for seq in range(0, COUNT, 10):
            store.append([small(n, stream, vector=vector(n, 768)) for n in range(seq, seq + 10) for stream in "ab"])
    for path in list(folder.glob("*.closed.sqlite")):
        number = path.name.partition(".")[0]
        begun = f".{number}.space.similar.x.partial"
        for name in (f"{number}.space.similar", f"{number}.space.centre", begun, f"{number}-999999.space.similar"):
            (folder / name).write_bytes(secret(0))


def secret(seq: int) -> bytes:
    return pack(vector(seq, 768))[1]


def attempt(folder: Path) -> None:
    forget(folder, Scope(before_ns=BEFORE_S * 10**9, streams=("a",)))


def check(folder: Path) -> None:
    """Each message is there or known to be forgotten, and what is not to be forgotten is there."""
    found = {(message.stream, message.seq) for message in Memory(folder).embeddings()}
    holes = Memory(folder).holes()
    gone = {(hole.source.stream, seq) for hole in holes for seq in range(hole.first, hole.end or 0)}
    assert not found & gone
    assert found | gone == {(stream, seq) for stream in "ab" for seq in range(COUNT)}
    assert gone <= {("a", seq) for seq in range(FORGOTTEN)}
    report = verify(folder)
    assert report.faults == [], report.faults


def run(kills: int, folder: Path, seed: int) -> str:
    chance = random.Random(seed)
    whole = folder / "whole"
    fill(whole)
    began = time.monotonic()
    shutil.copytree(whole, folder / "timed")
    attempt(folder / "timed")
    usual_s = time.monotonic() - began
    unfinished = 0
    for number in range(kills):
        memory = folder / str(number)
        shutil.copytree(whole, memory)
        writer = Store(memory, max_file=MAX_FILE) if number % 2 else None
        child = os.fork()
        if child == 0:
            try:
                attempt(memory)
            finally:
                os._exit(0)
        time.sleep(chance.random() * usual_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        check(memory)
        unfinished += len(Memory(memory).holes()) != len(Memory(folder / "timed").holes())
        attempt(memory)
        check(memory)
        content = b"".join(path.read_bytes() for path in memory.iterdir())
        only_a = range(FORGOTTEN)
        assert all(content.count(secret(seq)) == 1 for seq in only_a), "what is forgotten is left on the disk"
        assert all(content.count(secret(seq)) >= 2 for seq in range(FORGOTTEN, COUNT))
        if writer is not None:
            assert writer.append([small(0, "a", vector=vector(0, 768))]).duplicates == 1
            writer.close()
        shutil.rmtree(memory)
    return f"{kills} kills, {unfinished} of them before it was done"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as folder:
        print(run(given.kills, Path(folder), given.seed))


if __name__ == "__main__":
    main()
