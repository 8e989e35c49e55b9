"""A memory that is written, killed, compacted, closed and forgotten from, while others read it without a pause.

python tests/memory/life.py --seconds 60

Each reader must see, at any moment, all that was acknowledged before it looked and was not forgotten; nothing may ever fail.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from memory.other_user import NOBODY, public_folder
from memory.stored import small, vector
from mertd.memory.checking import verify
from mertd.memory.forgetting import Scope, forget
from mertd.memory.memory import Memory
from mertd.memory.store import Store

MAX_FILE = 120_000
"""Bytes after which another file begins: a second of writing fills some."""

LIFE_S = 0.25
"""Seconds that a writer lives at most. Every second one is killed, the others close the memory."""

FORGET_EVERY = 6
"""Lives between two times that something is forgotten."""

KEPT = 150
"""Messages that stay when something is forgotten, the newest ones."""


def write(folder: Path, life_s: float) -> None:
    """Append, and say after each transaction what is stored, until killed or for so long."""
    end = time.monotonic() + life_s
    with Store(folder / "memory", max_file=MAX_FILE) as store:
        run = store.cursor().get(small(0).boot, {})
        seq = run.get(("embedding", "room"), 0)
        while time.monotonic() < end:
            store.append([small(seq + more, vector=vector(seq + more, 768)) for more in range(3)])
            seq += 3
            _say(folder / "acknowledged", seq)
    os._exit(0)


def read(folder: Path, user: int) -> None:
    """Look until told to stop, and print how often."""
    if user:
        os.setgid(user)
        os.setuid(user)
    looks = 0
    while not (folder / "over").exists():
        acknowledged = _said(folder / "acknowledged")
        if not acknowledged:
            continue
        found = [message.seq for message in Memory(folder / "memory").embeddings()]
        forgotten = _said(folder / "forgotten")  # read last: what was forgotten meanwhile may be there or not
        looks += 1
        missing = set(range(forgotten, acknowledged)) - set(found)
        assert not missing, f"look {looks}: {sorted(missing)[:5]} of {forgotten} to {acknowledged} are missing"
        assert len(set(found)) == len(found), f"look {looks}: a message is there twice"
        assert found == sorted(found), f"look {looks}: not in order"
    print(looks)


def run(seconds: float, folder: Path, seed: int) -> str:
    """Fails if a reader fails, or the memory is not whole at the end."""
    chance = random.Random(seed)
    with Store(folder / "memory"):
        (folder / "memory").chmod(0o755)
    users = [0, 0, NOBODY] if os.getuid() == 0 else [0, 0]
    readers = [_start("read", folder, user) for user in users]
    lives = kills = forgotten = 0
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and all(reader.poll() is None for reader in readers):
            lives += 1
            child = os.fork()
            if child == 0:
                try:
                    write(folder, 60.0 if lives % 2 else chance.random() * LIFE_S)
                finally:
                    os._exit(99)
            if lives % FORGET_EVERY == 0 and _said(folder / "acknowledged") > KEPT:
                end = _said(folder / "acknowledged") - KEPT
                _say(folder / "forgotten", end)  # before: a reader may miss it from now on
                forgotten += forget(folder / "memory", Scope(before_ns=(end * 5 + 25) * 10**9))
            if lives % 2:
                time.sleep(chance.random() * LIFE_S)
                os.kill(child, signal.SIGKILL)
                kills += 1
            _, how = os.waitpid(child, 0)
            assert lives % 2 or how == 0, "the writer failed"
    finally:
        (folder / "over").touch()
        said = [reader.communicate() for reader in readers]
    for reader, (_, complaint) in zip(readers, said, strict=True):
        assert reader.returncode == 0, complaint
    report = verify(folder / "memory")
    assert report.faults == [], report.faults
    looks = ", ".join(out.strip() for out, _ in said)
    return f"{lives} lives, {kills} killed, {_said(folder / 'acknowledged')} stored, {forgotten} forgotten, looks: {looks}"


def _start(word: str, folder: Path, user: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--as", word, str(folder), str(user)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _say(path: Path, number: int) -> None:
    """Write a number so that it is read as a whole."""
    path.with_suffix(".new").write_text(str(number))
    path.with_suffix(".new").replace(path)


def _said(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--as", dest="reader", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        read(Path(given.reader[1]), int(given.reader[2]))
        return
    print(f"seed {given.seed}")
    with public_folder() as folder:
        print(run(given.seconds, folder, given.seed))


if __name__ == "__main__":
    main()
