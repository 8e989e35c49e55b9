from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_process import PATIENCE_S, wait_until
from memory.publishing import Station, following, station, until
from memory.stored import BOOTS, assert_same, vector
from mertd.errors import StoreError
from mertd.memory import follower as follower_module
from mertd.memory.checking import verify
from mertd.memory.follower import Follower
from mertd.memory.following import Following
from mertd.memory.memory import Memory


@pytest.fixture
def found() -> Iterator[Station]:
    with station() as one:
        yield one


def stored(folder: Path, kind: str = "embedding") -> list[int]:
    memory = Memory(folder)
    return [m.seq for m in (memory.embeddings() if kind == "embedding" else memory.events())]


def holes(folder: Path) -> list[tuple[str, int, int | None, str]]:
    return [(hole.kind, hole.first, hole.end, hole.reason) for hole in Memory(folder).holes()]


def test_it_begins_with_the_history_and_continues_where_it_was(found: Station, tmp_path: Path) -> None:
    for _ in range(20):
        found.embedding()
    found.event("started")
    with following(found, tmp_path):
        until(found, lambda: len(stored(tmp_path)) == 20 and len(stored(tmp_path, "event")) == 1)
        found.embedding()
        until(found, lambda: len(stored(tmp_path)) == 21)
    for _ in range(300):  # more than a page, while nobody remembers
        found.embedding()
    with following(found, tmp_path):
        until(found, lambda: len(stored(tmp_path)) == 321)
    assert stored(tmp_path) == list(range(321))
    assert holes(tmp_path) == []
    assert verify(tmp_path).faults == []
    sent = {(m.kind, m.seq): m for m in found.sent}
    for message in [*Memory(tmp_path).embeddings(), *Memory(tmp_path).events()]:
        assert_same(message, sent[message.kind, message.seq])


def test_what_no_history_has_is_a_hole_even_if_nothing_comes_after_it(found: Station, tmp_path: Path) -> None:
    found.lose(count=5)
    found.embedding()
    with following(found, tmp_path):
        until(found, lambda: stored(tmp_path) == [5])
        found.lose("event", 3)
        found.lose("embedding", 2)
        until(found, lambda: len(holes(tmp_path)) == 3)
    assert holes(tmp_path) == [("embedding", 0, 5, "missed"), ("embedding", 6, 8, "missed"), ("event", 0, 3, "missed")]
    assert verify(tmp_path).faults == []


def test_a_daemon_that_restarts_is_followed(found: Station, tmp_path: Path) -> None:
    with following(found, tmp_path):
        found.embedding()
        until(found, lambda: stored(tmp_path) == [0])
        found.restart(BOOTS[1])
        found.embedding()
        found.event("stopping")
        until(found, lambda: stored(tmp_path) == [0, 0] and stored(tmp_path, "event") == [0])
    found.restart(BOOTS[2])
    found.embedding()
    with following(found, tmp_path):
        until(found, lambda: stored(tmp_path) == [0, 0, 0])
    assert holes(tmp_path) == [("", 1, None, "run over")], "only the first run did not say that it ended"


def test_a_full_disk_is_announced_and_nothing_is_lost_that_the_history_has(
    found: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite is told that the file may not grow: to it that is a full disk."""
    monkeypatch.setattr(follower_module, "RETRY_S", 0.02)
    caplog.set_level(logging.INFO)
    with following(found, tmp_path) as one:
        found.embedding()
        until(found, lambda: stored(tmp_path) == [0])
        one._store.current.db.execute("PRAGMA max_page_count = 1")
        for _ in range(1_500):  # more than the queue of a subscriber holds
            found.embedding()
        wait_until(lambda: "full" in caplog.text, PATIENCE_S, lambda: "not announced")
        assert caplog.text.count("disk is full") == 1, "once, however often it is tried"
        one._store.current.db.execute("PRAGMA max_page_count = 1000000")
        until(found, lambda: len(stored(tmp_path)) == 1_501)
    assert stored(tmp_path) == list(range(1_501))
    assert holes(tmp_path) == []
    assert "stored again" in caplog.text


def test_what_the_history_no_longer_has_after_a_full_disk_is_a_hole_with_that_reason(
    found: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower_module, "RETRY_S", 0.02)
    with following(found, tmp_path) as one:
        found.embedding()
        until(found, lambda: stored(tmp_path) == [0])
        one._store.current.db.execute("PRAGMA max_page_count = 1")
        for _ in range(200):
            found.embedding()
        wait_until(lambda: "full" in caplog.text, PATIENCE_S, lambda: "not announced")
        found.lose(count=50)
        found.forget_history()
        found.embedding()
        one._store.current.db.execute("PRAGMA max_page_count = 1000000")
        until(found, lambda: 251 in stored(tmp_path))
    assert ("embedding", 201, 251, "disk") in holes(tmp_path)
    assert verify(tmp_path).faults == []


def test_a_damaged_file_is_replaced_while_it_runs(
    found: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower_module, "RETRY_S", 0.02)
    with following(found, tmp_path) as one:
        found.embedding()
        until(found, lambda: stored(tmp_path) == [0])
        one._store.current.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = one._store.current.path
        with path.open("r+b") as file:
            file.seek(0)
            file.write(b"\xee" * path.stat().st_size)
        one._store.current.db.close()  # SQLite has read the file and would not do so again
        found.embedding(vector=vector(1, 768))
        wait_until(lambda: "is damaged and is set aside" in caplog.text, PATIENCE_S, lambda: caplog.text)
        until(found, lambda: stored(tmp_path) == [0, 1])
    assert holes(tmp_path) == [], "what was in the damaged file came from the history again"


@pytest.mark.parametrize("what", ["directory", "file", "log"])
def test_a_memory_that_is_deleted_while_it_is_written_is_begun_again(
    found: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Without a look at the names, SQLite would go on with files that nobody can ever open again."""
    monkeypatch.setattr(follower_module, "RETRY_S", 0.02)
    folder = tmp_path / "memory"
    with following(found, folder) as one:
        found.embedding()
        until(found, lambda: stored(folder) == [0])
        path = one._store.current.path
        if what == "directory":
            shutil.rmtree(folder)
        else:
            path.with_name(path.name + ("-wal" if what == "log" else "")).unlink()
        found.embedding()
        wait_until(lambda: "was deleted or replaced while it was written to" in caplog.text, PATIENCE_S, lambda: caplog.text)
        until(found, lambda: bool(list(folder.glob("*.sqlite"))) and sorted(stored(folder)) == [0, 1])
    assert holes(folder) == [], "what was in it came from the history again"
    assert verify(folder).faults == []


@pytest.mark.slow
def test_missing_messages_that_a_history_has_after_all_are_filled_in(
    found: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control endpoint did not answer when they were first missed."""
    monkeypatch.setattr(follower_module, "UPKEEP_S", 0.05)
    for _ in range(10):
        found.embedding()
    real, found.control = found.control, "tcp://127.0.0.1:9"
    with following(found, tmp_path) as one:
        monkeypatch.setattr("mertd.stream.client.link.PATIENCE_S", 0.05)
        found.embedding()
        until(found, lambda: bool(holes(tmp_path)))
        monkeypatch.setattr(one, "_following", Following(tmp_path, (found.endpoint,), (real,)))
        until(found, lambda: sorted(stored(tmp_path)) == list(range(11)))
    assert holes(tmp_path) == []


def test_a_second_one_is_refused(found: Station, tmp_path: Path) -> None:
    with following(found, tmp_path):
        with pytest.raises(StoreError, match="is in use"):
            Follower(Following(tmp_path, (found.endpoint,), (found.control,)), threading.Event())
