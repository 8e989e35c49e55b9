from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from memory.stored import small
from mertd.errors import StoreError
from mertd.memory import commit_lock
from mertd.memory.commit_lock import CommitLock
from mertd.memory.forgetting import Scope, forget
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import open_if_there
from mertd.memory.segment import Segment
from mertd.memory.store import Store


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_lock, "MAX_WAIT_S", 0.05)


def test_two_processes_never_write_to_a_file_at_the_same_time(tmp_path: Path) -> None:
    """Else versions of SQLite before 3.51.3 may lose what one commits while the other one writes the log back."""
    with Store(tmp_path) as store:
        store.append([small(0)])
        other = CommitLock(tmp_path)
        with other.held():
            with pytest.raises(StoreError, match="another process has been writing for"):
                store.append([small(1)])
            with pytest.raises(StoreError, match="another process has been writing for"):
                forget(tmp_path, Scope())
        other.close()
        assert store.append([small(1)]).stored == 1
    assert [m.seq for m in Memory(tmp_path).embeddings()] == [0, 1]


def test_it_is_held_during_each_transaction_of_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def watched(method: str) -> None:
        original = getattr(Segment, method)

        def call(self: Segment, *args: float, **named: float) -> object:
            if self.path.suffix != ".partial":  # which nobody else knows yet
                lock = CommitLock(self.path.parent)
                seen.append(lock._taken())
                lock.close()
            return original(self, *args, **named)

        monkeypatch.setattr(Segment, method, call)

    watched("transaction")
    watched("write_back")
    with Store(tmp_path, max_file=60_000) as store:
        for seq in range(12):
            store.append([small(seq)])
        forget(tmp_path, Scope())
    assert len(seen) > 12
    assert not any(seen), "another process could have written"


def test_readers_cannot_write_back(tmp_path: Path) -> None:
    """Not even as the last one who closes the file."""
    with Store(tmp_path) as store:
        store.append([small(0)])
        path = store.current.path
        log = path.with_name(path.name + "-wal")
        size = log.stat().st_size
        assert size > 0
        reader = open_if_there(path)
        assert reader is not None
        store.current.db.close()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.db.execute("DELETE FROM embeddings")
        with reader:
            assert reader.count("embedding") == 1
        assert log.stat().st_size == size
