from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from memory.stored import assert_same, small, vector
from mertd.errors import StoreError
from mertd.memory import segment_files, tables
from mertd.memory.memory import Memory
from mertd.memory.rewriting import rewrite
from mertd.memory.segment import Segment
from mertd.memory.store import Store


def fill(folder: Path) -> None:
    with Store(folder, max_file=150_000) as store:
        for seq in range(0, 120, 10):
            store.append([small(n, vector=vector(n, 768)) for n in range(seq, seq + 10)])


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = {1: "ALTER TABLE facts ADD COLUMN note TEXT;\nCREATE TABLE new (x);"}
    monkeypatch.setattr(tables, "FORMAT", 2)
    monkeypatch.setattr(tables.migrate, "__defaults__", (migrations, 2))


@pytest.mark.usefixtures("next_version")
def test_all_files_are_brought_to_the_next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(tables, "FORMAT", 1)
        older.setattr(tables.migrate, "__defaults__", ({}, 1))
        fill(tmp_path)
    paths = sorted(tmp_path.glob("*.sqlite"))
    assert len(paths) > 2
    with pytest.raises(StoreError, match=r"is of version 1 of the memory, and this mertd reads version 2; `mertd run"):
        list(Memory(tmp_path).embeddings())
    with Store(tmp_path) as store:
        store.append([small(120)])
    assert sorted(tmp_path.glob("*.sqlite")) == paths
    for path in paths:
        with Segment(path) as found:
            assert tables.version(found.db, path.name) == 2
            assert found.count("embedding")
            found.rows("SELECT * FROM new")
    for seq, message in enumerate(list(Memory(tmp_path).embeddings())[:120]):
        assert_same(message, small(seq, vector=vector(seq, 768)))


@pytest.mark.parametrize("when", ["change", "sync", "replace"])
def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    fill(tmp_path)
    path = min(tmp_path.glob("*.closed.sqlite"))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        if when == "sync":
            full.setattr("mertd.memory.rewriting.sync", fail)
        if when == "replace":
            full.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            rewrite(path, fail if when == "change" else lambda db: db.execute("DELETE FROM embeddings"))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.partial*"))
    rewrite(path, lambda db: db.execute("DELETE FROM embeddings"))
    with Segment(path) as found:
        assert found.count("embedding") == 0


def test_no_copy_is_begun_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    path = min(tmp_path.glob("*.closed.sqlite"))
    free = SimpleNamespace(f_blocks=1, f_frsize=1, f_bavail=segment_files.RESERVE + path.stat().st_size)
    monkeypatch.setattr("mertd.memory.segment_files.os.statvfs", lambda _: free)
    with pytest.raises(StoreError, match="the disk is full; the memory needs"):
        rewrite(path, lambda _: None)
    rewrite(path)
    with Segment(path) as found:
        assert found.count("embedding")


def test_an_sqlite_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mertd.memory.segment.sqlite3.sqlite_version_info", (3, 26, 0))
    monkeypatch.setattr("mertd.memory.segment.sqlite3.sqlite_version", "3.26.0")
    with pytest.raises(StoreError, match=r"Python's SQLite 3\.26\.0 is too old for the memory, which needs 3\.27\.0 or newer"):
        Store(tmp_path)
