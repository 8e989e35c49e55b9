"""The memory of many rooms: each message of a bus is stored once, whatever happens to the process that stores it."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus.cluster import Cluster
from bus.publishing import Publisher
from command_process import PATIENCE_S, mertd, wait_until
from mertd.bus.bus_access import BusAccess, parse_servers
from mertd.bus.bus_holes import BusHole
from mertd.memory.bus_following import BusFollowing
from mertd.memory.checking import verify
from mertd.memory.follower import Follower
from mertd.memory.memory import Memory
from mertd.memory.store import Store
from mertd.wire import Time, encode
from messages import MODEL, embedding, event
from working_thread import working

STUDIO = bytes(16)
HALL = bytes([1]) * 16
LATER = bytes([2]) * 16


@pytest.fixture
def published(bus: Cluster) -> Iterator[Publisher]:
    with Publisher(bus) as made:
        yield made


@contextmanager
def following(folder: Path, published: Publisher, max_file: int = 1 << 30) -> Iterator[Follower]:
    stopping = threading.Event()
    access = BusAccess(parse_servers(published.bus.url()))
    one = Follower(BusFollowing(folder, access, published.name, max_file=max_file), stopping)
    with working(one.run, stopping):
        yield one


def stored(folder: Path) -> list[tuple[str, str, bytes, int]]:
    if not list(folder.glob("*.sqlite")):
        return []
    memory = Memory(folder)
    return sorted((m.daemon, m.kind, m.boot, m.seq) for m in [*memory.embeddings(), *memory.events()])


def until(folder: Path, count: int) -> None:
    wait_until(lambda: len(stored(folder)) >= count, PATIENCE_S, lambda: f"stored are only {stored(folder)}")


def test_streams_of_one_name_in_two_rooms_are_two_streams(published: Publisher, tmp_path: Path) -> None:
    other = MODEL.__class__(**{**vars(MODEL), "space": "f" * 16})
    published.publish(*(embedding(n, boot=STUDIO) for n in range(3)), event(0, boot=STUDIO))
    published.publish(*(embedding(n, boot=HALL, daemon="hall", model=other) for n in range(2)))
    published.publish(*(embedding(n, boot=STUDIO) for n in range(4)), with_id=False)  # again, and one more
    published.put([("mertd.hall.room.embedding", b"nonsense", None)])
    announced = BusHole(LATER, "studio", "room", "event", 0, 3, "missed").event(event(3))
    published.publish(announced, event(3, boot=LATER), with_id=False)
    with following(tmp_path, published) as one:
        until(tmp_path, 8)
        published.publish(embedding(2, boot=HALL, daemon="hall", model=other))
        until(tmp_path, 9)
    assert one.stored == 9
    assert stored(tmp_path) == [
        *(("hall", "embedding", HALL, n) for n in range(3)),
        *(("studio", "embedding", STUDIO, n) for n in range(4)),
        ("studio", "event", STUDIO, 0),
        ("studio", "event", LATER, 3),
    ]
    assert verify(tmp_path).faults == []
    holes = [(hole.source.boot, hole.kind, hole.first, hole.end) for hole in Memory(tmp_path).holes()]
    assert holes == [(STUDIO, "", 4, None), (LATER, "event", 0, 3)]
    with following(tmp_path, published):  # it continues behind what it has
        published.publish(embedding(3, boot=HALL, daemon="hall", model=other))
        until(tmp_path, 10)


@pytest.mark.slow
def test_the_place_goes_from_a_full_file_to_the_next(published: Publisher, tmp_path: Path) -> None:
    published.publish(*(embedding(n) for n in range(40)))
    with following(tmp_path, published, max_file=1):
        until(tmp_path, 40)
        published.publish(embedding(40))
        until(tmp_path, 41)
    assert len(list(tmp_path.glob("*.sqlite"))) > 1
    with Store(tmp_path) as store:
        assert (store.place(f"nats {published.name}") or "").endswith(" 42")


def test_what_a_damaged_file_held_is_read_from_the_bus_again(published: Publisher, tmp_path: Path) -> None:
    published.publish(*(embedding(n) for n in range(30)))
    with following(tmp_path, published):
        until(tmp_path, 30)
    (last,) = tmp_path.glob("*.sqlite")
    for extra in ("-wal", "-shm"):
        last.with_name(last.name + extra).unlink(missing_ok=True)
    content = bytearray(last.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    last.write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError), sqlite3.connect(last) as db:
        db.execute("SELECT * FROM embeddings").fetchall()
    with following(tmp_path, published):
        until(tmp_path, 30)
    assert [seq for *_, seq in stored(tmp_path)] == list(range(30))


@pytest.mark.slow
def test_a_process_that_is_killed_loses_nothing_and_stores_nothing_twice(published: Publisher, tmp_path: Path) -> None:
    count, kills = 400, 8
    portion = count // kills
    words = ["--from", published.bus.url(), "--bus-stream", published.name, "--memory", str(tmp_path)]
    command = [sys.executable, "-m", "mertd", "remember", *words]
    for kill in range(kills):
        before = len(stored(tmp_path))
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            numbers = range(kill * portion, (kill + 1) * portion)
            published.put([("mertd.studio.room.embedding", encode(embedding(n))[1], None) for n in numbers])
            wait_until(lambda before=before: len(stored(tmp_path)) > before, PATIENCE_S, lambda: "nothing came")
            time.sleep(kill * 0.01)
            process.send_signal(signal.SIGKILL)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(stored(tmp_path)) >= count, PATIENCE_S, lambda: "not all came")
        process.send_signal(signal.SIGKILL)
    assert [seq for *_, seq in stored(tmp_path)] == list(range(count))
    assert Memory(tmp_path).holes() == []


@pytest.mark.slow
def test_commands_read_from_a_bus(published: Publisher, tmp_path: Path) -> None:
    begun = time.time_ns()
    published.publish(*(embedding(n, time=Time(begun + n, begun + n + 1, 0, 0.0)) for n in range(3)))
    words = ["--connect", published.bus.url(), "--bus-stream", published.name]
    done = mertd("tail", *words, "--since", "1h", "--json", "--count", 3)
    assert done.returncode == 0
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [0, 1, 2]
    done = mertd("tail", *words, "--last", 2, "--json", "--count", 2)
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [1, 2]
    for faulty, said in [
        (["tail", "--nkey", "x"], "no bus is named"),
        (["remember", "--from", "nats://a", "--connect", "tcp://127.0.0.1:1"], "one or the other"),
    ]:
        refused = mertd(*faulty, "--memory", tmp_path)
        assert refused.returncode == 2
        assert said in refused.stderr
