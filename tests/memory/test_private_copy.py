"""A reader that may not write to the directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.other_user import NOBODY, as_user, public_folder, reading_only
from memory.stored import small, vector
from mertd.errors import StoreError
from mertd.memory import private_copy
from mertd.memory.checking import verify
from mertd.memory.forgetting import Scope, forget
from mertd.memory.memory import Memory
from mertd.memory.store import Store


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as found:
        yield found / "memory"


def stored(folder: Path) -> list[int]:
    with reading_only(folder):
        assert verify(folder).faults == []
        return [m.seq for m in Memory(folder).embeddings()]


def test_a_memory_is_read_while_it_is_written_and_after_that(folder: Path) -> None:
    with Store(folder) as store:
        assert stored(folder) == []
        store.append([small(0), small(1)])
        assert stored(folder) == [0, 1]
    assert stored(folder) == [0, 1]
    with Store(folder) as store:
        assert stored(folder) == [0, 1]
        store.append([small(2)])
        before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}
    for path, content in before.items():  # as if it had been killed
        path.write_bytes(content)
    assert stored(folder) == [0, 1, 2]


@pytest.mark.parametrize("missing", [("-wal", "-shm"), ("-shm",)])
def test_a_log_that_was_not_copied_is_made_elsewhere(folder: Path, missing: tuple[str, ...]) -> None:
    with Store(folder) as store:
        store.append([small(seq) for seq in range(3)])
        path = store.current.path
        kept = path.with_name(path.name + "-wal").read_bytes()
        main = path.read_bytes()
    if "-wal" not in missing:
        path.with_name(path.name + "-wal").write_bytes(kept)
        path.write_bytes(main)
    for extra in missing:
        path.with_name(path.name + extra).unlink()
    names = sorted(folder.iterdir())
    assert stored(folder) == [0, 1, 2]
    assert sorted(folder.iterdir()) == names


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_what_root_does_leaves_the_memory_to_its_owner(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    with as_user(NOBODY), Store(folder, max_file=150_000) as store:
        for seq in range(100):
            store.append([small(seq, vector=vector(seq, 768))])
    for path in [*folder.glob("*.lock"), *folder.glob("*-wal"), *folder.glob("*-shm")]:  # as in a copy
        path.unlink()
    for path in folder.glob("*.closed.sqlite"):
        path.chmod(0o600)
    assert forget(folder, Scope(before_ns=100 * 10**9)) == 15
    assert [m.seq for m in Memory(folder).embeddings()] == list(range(15, 100))
    assert {path.stat().st_uid for path in folder.iterdir()} == {NOBODY}
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.closed.sqlite")} == {0o600}
    with as_user(NOBODY), Store(folder) as store:
        assert store.append([small(100)]).stored == 1
        assert verify(folder).faults == []


def test_a_file_that_never_stops_changing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(folder) as store:
        path = store.current.path
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink()
    states = iter(range(1_000))
    monkeypatch.setattr(private_copy, "_state", lambda _: next(states))
    with reading_only(folder), pytest.raises(StoreError, match="it changes, its log is missing"):
        list(Memory(folder).embeddings())
