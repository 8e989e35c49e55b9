from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from memory.stored import BOOTS, assert_same, key, small
from mertd.errors import StoreError
from mertd.memory import segment as segment_module
from mertd.memory import tables
from mertd.memory.checking import verify
from mertd.memory.memory import Memory
from mertd.memory.segment import Segment
from mertd.memory.store import Store
from messages import event

VERSION_1 = Path(__file__).parent / "version_1.sql"
MIGRATIONS = {1: "ALTER TABLE facts ADD COLUMN note TEXT;\nINSERT INTO facts VALUES ('new', 7, 'x');", 2: "DROP TABLE holes;"}


def restore(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.close()


def test_a_file_of_the_first_version_is_read_and_continued(tmp_path: Path) -> None:
    restore(tmp_path / "000001.sqlite")
    expected = [small(0), small(1), small(5), event(0), event(1, event="stopping"), small(0, "garden", boot=BOOTS[0])]
    with Store(tmp_path) as store:
        assert store.append([small(6), small(3), small(6)]).duplicates == 1
    found = {key(m): m for m in [*Memory(tmp_path).embeddings(), *Memory(tmp_path).events()]}
    for message in [*expected, small(6), small(3)]:
        assert_same(found[key(message)], message)
    assert verify(tmp_path).faults == []


def test_the_tables_of_the_first_version_stay_what_they_are(tmp_path: Path) -> None:
    """A change needs a new version and a migration; then this test compares with what that makes of the first one."""
    restore(tmp_path / "000001.sqlite")
    with Store(tmp_path / "new") as new, Segment(tmp_path / "000001.sqlite", begin=lambda _: None) as old:
        schema = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        assert new.current.db.execute(schema).fetchall() == old.db.execute(schema).fetchall()


def test_migrations_run_in_turn_and_each_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "000001.sqlite"
    restore(path)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        tables.migrate(connection, path.name, {1: MIGRATIONS[1] + "\nDROP TABLE nothing;"}, 2)
    assert tables.version(connection, path.name) == 1
    assert [row[1] for row in connection.execute("PRAGMA table_info(facts)")] == ["name", "value"], "undone as a whole"
    tables.migrate(connection, path.name, MIGRATIONS, 2)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert ("new", 7, "x") in connection.execute("SELECT * FROM facts").fetchall()
    connection.close()


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    restore(tmp_path / "000001.sqlite")
    connection = sqlite3.connect(tmp_path / "000001.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    for use in (lambda: Store(tmp_path), lambda: list(Memory(tmp_path).embeddings())):
        with pytest.raises(
            StoreError, match="is of version 2 of the memory, and this mertd knows versions up to 1; update mertd"
        ):
            use()


def test_a_file_system_without_a_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module.Segment, "_has_wal", lambda _: False)
    with pytest.raises(StoreError, match="keep the memory on a local disk"):
        Store(tmp_path)
