"""What becomes of a memory on a disk that is full: a real one, of twelve megabytes, that only this process sees.

unshare --user --map-root-user --mount python tests/memory/small_disk.py FOLDER
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_process import PATIENCE_S, wait_until
from memory.publishing import following, station, until
from memory.stored import small, vector
from mertd.errors import StoreError
from mertd.memory import follower as follower_module
from mertd.memory import segment_files
from mertd.memory.checking import verify
from mertd.memory.forgetting import Scope, forget
from mertd.memory.memory import Memory
from mertd.memory.store import Store

SIZE = 12 << 20
"""Bytes of the disk."""

WIDE = 768


class Lines(logging.Handler):
    """Log lines of the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Disk:
    """A file system in memory, and how to fill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "disk"
        self.folder.mkdir(exist_ok=True)
        self.memory = self.folder / "memory"
        self._ballast = self.folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Take all room but so many bytes."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        with self._ballast.open("r+b") as file:
            file.truncate(max(0, self._ballast.stat().st_size - leave))

    def empty(self) -> None:
        self._ballast.unlink()


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    made = Disk(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", made.folder], check=True)
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", made.folder], check=True)


def stored(folder: Path) -> list[int]:
    return [message.seq for message in Memory(folder).embeddings()]


def follow(disk: Disk, said: Lines, history: bool) -> None:
    """The process that remembers: what is stored stays, it complains once, and the rest comes when there is room."""
    with station() as found, following(found, disk.memory) as one:
        found.embedding(vector=vector(0, WIDE))
        until(found, lambda: stored(disk.memory) == [0])
        disk.fill(leave=segment_files.RESERVE + 200_000)
        while not said.lines:
            found.embedding(vector=vector(len(found.sent), WIDE))
            assert len(found.sent) < 5_000, "the disk is never full"
            wait_until(
                lambda: one.stored == len(found.sent) or bool(said.lines), PATIENCE_S, lambda: "neither stored nor announced"
            )
        sent = len(found.sent)
        before = one.stored
        assert stored(disk.memory) == list(range(before)), "all that was acknowledged, and it can be read"
        assert verify(disk.memory).faults == []
        threading.Event().wait(10 * follower_module.RETRY_S)  # it tries again, and says nothing more
        (line,) = said.lines
        assert "disk is full" in line or "disk I/O error" in line, line
        assert "trying again every" in line
        if not history:
            found.lose(count=7)
            found.forget_history()
            found.embedding()
        disk.empty()
        end = sent if history else sent + 8
        until(found, lambda: end - 1 in stored(disk.memory))
        missing = [] if history else list(range(sent, sent + 7))
        assert stored(disk.memory) == [seq for seq in range(end) if seq not in missing]
        holes = [(hole.first, hole.end, hole.reason) for hole in Memory(disk.memory).holes()]
        assert holes == ([] if history else [(sent, sent + 7, "disk")])
        assert "stored again" in said.lines[1]
    assert verify(disk.memory).faults == []


@contextmanager
def no_room() -> Iterator[list[str]]:
    """Note an error, which must say that the disk is full."""
    complaints: list[str] = []
    try:
        yield complaints
    except StoreError as error:
        complaints.append(str(error))
    assert all(re.search("disk is full|disk I/O error|No space left", complaint) for complaint in complaints), complaints


def write(disk: Disk) -> None:
    """Whatever meets the full disk, opening, a further file, a compact copy or forgetting, leaves the memory as it was."""
    messages = [small(seq, vector=vector(seq, WIDE)) for seq in range(600)]
    with Store(disk.memory, max_file=300_000) as store:
        done = 0
        while len(list(disk.memory.glob("*.sqlite"))) < 3:
            store.append(messages[done : done + 10])
            done += 10
        failed = 0
        for leave in (0, 30_000, 100_000, 200_000, 400_000):
            disk.fill(leave)
            with no_room() as complaints:
                while done < 600:
                    store.append(messages[done : done + 10])
                    done += 10
            failed += len(complaints)
            assert stored(disk.memory) == list(range(done))
            with no_room() as complaints:
                forget(disk.memory, Scope(before_ns=40 * 10**9))
            failed += len(complaints)
            kept = stored(disk.memory)
            assert kept in (list(range(done)), list(range(3, done)))
            assert verify(disk.memory).faults == []
            disk.empty()
        assert failed > 1
    disk.fill()
    with no_room(), Store(disk.memory) as store:
        store.append(messages[done : done + 1])
    disk.empty()
    assert stored(disk.memory)[-1] >= done - 1
    with Store(disk.memory) as store:
        store.append(messages)
    assert stored(disk.memory)[-1] == 599
    assert not list(disk.memory.glob("*.partial*"))
    assert not list(disk.memory.glob("*.damaged"))
    assert verify(disk.memory).faults == []


def main() -> None:
    follower_module.RETRY_S = 0.05
    said = Lines()
    logging.getLogger("mertd").addHandler(said)
    for history, reserve in ((True, 4 << 20), (False, 0)):  # without a reserve it is SQLite that meets the end
        segment_files.RESERVE = reserve
        with disk(Path(sys.argv[1])) as one:
            said.lines.clear()
            follow(one, said, history)
    with disk(Path(sys.argv[1])) as one:
        write(one)


if __name__ == "__main__":
    main()
