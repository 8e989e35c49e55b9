from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memory.stored import small, vector
from mertd.errors import StoreError
from mertd.memory.checking import verify
from mertd.memory.forgetting import Scope, forget, preview
from mertd.memory.half_floats import pack
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import upkeep
from mertd.memory.similarity import segment_index
from mertd.memory.store import Store
from messages import MODEL, event

SECOND_NS = 1_000_000_000
WIDE = 768


def fill(folder: Path, count: int = 60, max_file: int = 150_000) -> Store:
    store = Store(folder, max_file=max_file)
    for seq in range(0, count, 5):
        store.append([small(n, stream, vector=vector(n, WIDE)) for n in range(seq, seq + 5) for stream in ("a", "b")])
        store.append([event(seq // 5, "a")])
    return store


def secrets(numbers: range) -> list[bytes]:
    return [pack(vector(n, WIDE))[1] for n in numbers]


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_nothing_of_what_is_forgotten_is_left_on_the_disk(tmp_path: Path) -> None:
    """While the process that writes goes on: vectors are looked for as bytes, in all files."""
    with fill(tmp_path) as store:
        built = tmp_path / "000001.x.similar"
        built.write_bytes(b"built from vectors")
        before_ns = 100 * SECOND_NS  # windows of 30 s, every 5 s: the first 15 end by then
        scope = Scope(before_ns)
        found = preview(tmp_path, scope)
        assert found.counts == {"embedding": 30, "event": 12}
        assert (found.first_ns, found.last_ns) == (0, 70 * SECOND_NS)
        assert forget(tmp_path, scope) == 42
        content = on_disk(tmp_path)
        assert not any(secret in content for secret in secrets(range(15)))
        assert all(secret in content for secret in secrets(range(15, 60)))
        assert not built.exists()
        assert preview(tmp_path, scope).counts == {"embedding": 0, "event": 0}
        assert store.append([small(60, "a"), small(3, "a")]).duplicates == 1, "what was forgotten does not come back"
    assert sorted({m.seq for m in Memory(tmp_path).embeddings()}) == list(range(15, 61))
    assert verify(tmp_path).faults == []


def test_a_stream_is_forgotten_and_the_others_stay(tmp_path: Path) -> None:
    with fill(tmp_path):
        assert forget(tmp_path, Scope(streams=("a",))) == 72
    assert {m.stream for m in Memory(tmp_path).embeddings()} == {"b"}
    assert {(h.source.stream, h.reason) for h in Memory(tmp_path).holes()} == {("a", "forgotten")}
    assert sum((h.end or 0) - h.first for h in Memory(tmp_path).holes()) == 72
    assert verify(tmp_path).faults == []
    assert Memory(tmp_path).arrays(MODEL.space).vectors.shape == (60, WIDE)


def test_everything_is_forgotten(tmp_path: Path) -> None:
    with fill(tmp_path) as store:
        files = len(list(tmp_path.glob("*.sqlite")))
        forget(tmp_path, Scope())
        assert not any(secret in on_disk(tmp_path) for secret in secrets(range(60)))
        assert len(list(tmp_path.glob("*.sqlite"))) < files, "files from the beginning are deleted"
        assert store.cursor()[small(0).boot]["embedding", "a"] == 60
    assert list(Memory(tmp_path).embeddings()) == []
    assert verify(tmp_path).faults == []


def test_a_reader_that_holds_old_pages_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mertd.memory.forgetting.READERS_S", 0.05)
    with fill(tmp_path, 10, 1 << 30):
        reading = Memory(tmp_path).embeddings()
        next(reading)
        with pytest.raises(StoreError, match="is being read by another process"):
            forget(tmp_path, Scope())
        reading.close()  # type: ignore[attr-defined]
        assert any(secret in on_disk(tmp_path) for secret in secrets(range(10))), "the log still has it"
        assert forget(tmp_path, Scope()) == 0, "the rows are gone"
        assert not any(secret in on_disk(tmp_path) for secret in secrets(range(10)))


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_forgets_damages_nothing() -> None:
    """A process of its own, because it forks."""
    command = [sys.executable, str(Path(__file__).parent / "forgetting_kills.py"), "--kills", "16"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_an_index_of_what_is_forgotten_meanwhile_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have begun to build it before, and end after everything else."""
    pytest.importorskip("usearch")
    fill(tmp_path).close()
    real = segment_index.build_index

    def slow(*given: Any, **named: Any) -> None:
        if not list(tmp_path.glob("*.similar")):
            forget(tmp_path, Scope(before_ns=100 * SECOND_NS))
        real(*given, **named)

    monkeypatch.setattr(segment_index, "build_index", slow)
    with pytest.raises(StoreError, match="was replaced, because something of it was forgotten"):
        Memory(tmp_path).similar(vector(3, WIDE))
    assert not list(tmp_path.glob("000001.*.similar"))
    assert not list(tmp_path.glob("000001.*.centre"))
    assert Memory(tmp_path).similar(vector(30, WIDE))


def test_files_are_not_replaced_while_something_is_being_forgotten(tmp_path: Path) -> None:
    """The writer then goes on with the file that it has."""
    with fill(tmp_path, 10) as store:
        with upkeep(tmp_path, waits=True):
            path = store.current.path
            store.append([small(n, "a", vector=vector(n, WIDE)) for n in range(10, 200)])
            store.append([small(200, "a")])
            assert store.current.path == path
        store.append([small(201, "a")])
        assert store.current.path != path
    assert verify(tmp_path).faults == []
