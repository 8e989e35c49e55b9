from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.stored import BOOTS, assert_same, key, small, vector
from mertd.errors import StoreError
from mertd.memory import memory_folder, segment_files, tables
from mertd.memory import segment as segment_module
from mertd.memory.checking import verify
from mertd.memory.holes import HoleReason
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import segments
from mertd.memory.rewriting import rewrite
from mertd.memory.segment import Segment
from mertd.memory.store import Store
from mertd.wire import Audio, Embedding, Event, Span, Time
from messages import MODEL, event


def everything(folder: Path) -> list[Embedding | Event]:
    memory = Memory(folder)
    return [*memory.embeddings(), *memory.events()]


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    sent = [
        small(0),
        small(1, vector=vector(1, 768, 2), model=replace(MODEL, layers=(2, 6), space="other", trained=True)),
        small(0, "garden", epoch=7, skipped=3, window=Span(-5, 24_000, 48_000)),
        small(1, "garden", time=Time(10, 5, 0, -0.0), audio=Audio(-0.0, 0.0, 1, 2, 3), boot=BOOTS[0]),
        event(0, detail={"reason": "läte", "list": [1, {"deep": b"\0\xff"}], "x": 1.5, "none": None}),
        event(0, "garden", event="made up", index=-1),
    ]
    with Store(tmp_path) as store:
        assert store.append(sent).stored == len(sent)
    found = {key(message): message for message in everything(tmp_path)}
    assert len(found) == len(sent)
    for message in sent:
        assert_same(found[key(message)], message)
    assert verify(tmp_path).faults == []


MESSAGES = st.lists(
    st.tuples(st.sampled_from(BOOTS[:2]), st.sampled_from("ab"), st.booleans(), st.integers(0, 12)),
    max_size=40,
)


@given(st.lists(MESSAGES, max_size=5), st.sampled_from([1, 40_000, 1 << 30]))
@settings(max_examples=12)
def test_it_holds_what_a_list_would(batches: list[list[tuple[bytes, str, bool, int]]], max_file: int) -> None:
    """In any order, with duplicates and holes, over several files and starts: each message once, and every hole is told."""
    folder = Path(tempfile.mkdtemp())
    try:
        model: dict[tuple[bytes, str, str], set[int]] = defaultdict(set)
        highest: dict[tuple[bytes, str, str], int] = defaultdict(int)
        for batch in batches:
            messages = [
                event(seq, stream, boot=boot) if is_event else small(seq, stream, boot=boot)
                for boot, stream, is_event, seq in batch
            ]
            with Store(folder, max_file=max_file) as store:
                result = store.append(messages)
            assert result.stored + result.duplicates == len(messages)
            for message in messages:
                highest[message.boot, message.kind, message.stream] = max(
                    highest[message.boot, message.kind, message.stream], message.seq + 1
                )
                if max_file > 40_000:  # in one file, a hole can be filled later
                    model[message.boot, message.kind, message.stream].add(message.seq)
        found: dict[tuple[bytes, str, str], list[int]] = defaultdict(list)
        if any(batches):
            for message in everything(folder):
                found[message.boot, message.kind, message.stream].append(message.seq)
            report = verify(folder)
            assert report.faults == []
        for one, numbers in found.items():
            assert len(set(numbers)) == len(numbers)
            missing = sum(
                hole.end - hole.first
                for hole in Memory(folder).holes()
                if (hole.source.boot, hole.kind, hole.source.stream) == one and hole.end is not None
            )
            assert len(numbers) + missing == highest[one]
            if max_file > 40_000:
                assert set(numbers) == model[one]
    finally:
        shutil.rmtree(folder)


def test_a_hole_is_told_with_its_reason_and_filled_by_what_comes_later(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        result = store.append([small(0), small(5)], HoleReason.DISK)
        assert (result.stored, result.missing) == (2, 4)
        (hole,) = Memory(tmp_path).holes()
        assert (hole.kind, hole.first, hole.end, hole.reason) == ("embedding", 1, 5, "disk")
        assert store.append([small(3), small(3)]).duplicates == 1
        assert [(hole.first, hole.end) for hole in Memory(tmp_path).holes()] == [(1, 3), (4, 5)]
    assert verify(tmp_path).faults == []


def test_a_run_that_ended_without_saying_so_leaves_a_hole_of_unknown_size(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(0, boot=BOOTS[0]), event(0, event="stopping", boot=BOOTS[0])])
        store.append([small(0, boot=BOOTS[1])])
        assert Memory(tmp_path).holes() == []
        store.append([small(0, boot=BOOTS[2])])
    (hole,) = Memory(tmp_path).holes()
    assert (hole.source.boot, hole.kind, hole.first, hole.end, hole.reason) == (BOOTS[1], "", 1, None, "run over")
    assert verify(tmp_path).faults == []


def test_what_cannot_be_stored_is_a_hole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(tmp_path) as store:
        store.append([small(0), small(1, epoch=1 << 63), small(2, time=Time(-(1 << 63), (1 << 63) - 1, 0, 0.0)), small(3)])
        store.append([small(1 << 64), replace(small(0), seq=(1 << 63) - 1), replace(event(0), seq=(1 << 63) - 1)])
        assert store.append([event(0, event="not text: \ud800"), event(1)]).stored == 1
        for stream in "ab":  # two holes whose sizes add up to more than 64 bits
            store.append([replace(small(0, stream), seq=(1 << 63) - 2)])
    assert sorted(m.seq for m in Memory(tmp_path).embeddings()) == [0, 3, (1 << 63) - 2, (1 << 63) - 2]
    assert [(hole.first, hole.end, hole.reason) for hole in Memory(tmp_path).holes()] == [
        (1, 2, "unstorable"),
        (2, 3, "unstorable"),
        (0, 1, "unstorable"),
        (0, (1 << 63) - 2, "missed"),
        (0, (1 << 63) - 2, "missed"),
    ]
    assert verify(tmp_path).missing == 3 + 2 * ((1 << 63) - 2)
    assert "cannot be stored" in caplog.text
    assert verify(tmp_path).faults == []


def test_what_cannot_be_stored_takes_nothing_with_it_that_came_first_beside_it(tmp_path: Path) -> None:
    """A model that is new with a batch must be stored although another message of the batch made SQLite refuse all of it."""
    new = replace(MODEL, space="new")
    with Store(tmp_path) as store:
        assert store.append([small(0, model=new), small(1, epoch=1 << 63), small(2, model=new), event(0)]).stored == 3
        assert store.append([small(3, model=new), *(event(seq) for seq in range(1, 2_000))]).stored == 2_000
    assert [(m.seq, m.model.space) for m in Memory(tmp_path).embeddings()] == [(0, "new"), (2, "new"), (3, "new")]
    assert verify(tmp_path).faults == []


def test_files_follow_on_each_other_and_each_knows_what_came_before(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=100_000) as store:
        for seq in range(60):
            store.append([small(seq, vector=vector(seq, 768))])
    names = sorted(path.name for path in tmp_path.glob("*.sqlite"))
    assert len(names) > 3
    assert [name for name in names if "closed" not in name] == names[-1:], "all but the last are compact"
    with Store(tmp_path, max_file=100_000) as store:
        assert store.append([small(3, vector=vector(3, 768))]).duplicates == 1
        assert store.cursor()[small(0).boot]["embedding", "room"] == 60
    block = Memory(tmp_path).arrays(MODEL.space)
    assert block.vectors.shape == (60, 768)
    assert len(set(block.ids.tolist())) == 60
    assert (np.diff(block.start_ns) == 5_000_000_000).all()
    assert (block.end_ns - block.start_ns == 30_000_000_000).all()
    assert set(block.streams.tolist()) == set(Memory(tmp_path).streams())
    assert verify(tmp_path).faults == []


def test_a_clock_that_steps_back_is_stored_as_told(tmp_path: Path) -> None:
    times = [100, 200, 50, 60, 150]
    with Store(tmp_path) as store:
        store.append([small(i, time=Time(t, t + 30, 0, 0.0)) for i, t in enumerate(times)])
    assert [m.seq for m in Memory(tmp_path).embeddings(50, 151)] == [2, 3, 0, 4], "by time"
    assert Memory(tmp_path).arrays(MODEL.space).start_ns.tolist() == times, "as they came"
    assert verify(tmp_path).faults == []


def test_a_second_writer_is_refused_and_a_dead_one_is_not(tmp_path: Path) -> None:
    with Store(tmp_path):
        with pytest.raises(StoreError, match=r"is in use: process \d+ writes to this memory; stop it"):
            Store(tmp_path)
    with Store(tmp_path) as store:
        store.append([small(0)])


def test_reading_goes_on_while_another_writes(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=150_000) as store:
        store.append([small(seq) for seq in range(100)])
        reading = Memory(tmp_path).embeddings()
        found = [next(reading).seq]
        for seq in range(100, 1_000, 50):
            store.append([small(seq + i) for i in range(50)])
        found += [message.seq for message in reading]
        assert len(list(tmp_path.glob("*.closed.sqlite"))) > 1
    assert found[:100] == list(range(100))
    assert [m.seq for m in Memory(tmp_path).embeddings()] == list(range(1_000))


def test_a_reader_that_never_ends_keeps_no_file_from_ending(tmp_path: Path) -> None:
    """While it reads, the log cannot be written back; it counts as part of the file, and so begins another one."""
    limit = 200_000
    with Store(tmp_path, max_file=limit) as store:
        store.append([small(seq) for seq in range(4)])
        reading = Memory(tmp_path).embeddings()
        next(reading)
        for seq in range(4, 454, 3):
            store.append([small(more, vector=vector(more, 768)) for more in range(seq, seq + 3)])
            assert sum(path.stat().st_size for path in tmp_path.glob("*-wal")) < 2 * limit
        assert [message.seq for message in reading] == [1, 2, 3]
    assert len(list(tmp_path.glob("*.closed.sqlite"))) > 3
    assert [m.seq for m in Memory(tmp_path).embeddings()] == list(range(454))


def test_a_log_that_had_grown_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "MAX_LOG", 100_000)
    with Store(tmp_path) as store:
        store.current.db.execute("PRAGMA wal_autocheckpoint = 20")
        log = store.current.path.with_name(store.current.path.name + "-wal")
        store.append([small(seq) for seq in range(4)])
        reading = Memory(tmp_path).embeddings()
        next(reading)
        for seq in range(4, 61):
            store.append([small(seq, vector=vector(seq, 768))])
        assert log.stat().st_size > 400_000
        list(reading)
        for seq in range(61, 64):
            store.append([small(seq)])
        assert log.stat().st_size <= 100_000


def test_a_transaction_that_fails_leaves_the_memory_as_before(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(0)])
        store.current.db.execute("PRAGMA max_page_count = 1")  # a full disk, for SQLite
        with pytest.raises(StoreError, match="full"):
            store.append([small(seq, "new", vector=vector(seq, 768)) for seq in range(200)])
        assert "new" not in {stream for run in store.cursor().values() for _, stream in run}
        store.current.db.execute("PRAGMA max_page_count = 1000000")
        assert store.append([small(0, "new")]).stored == 1
        assert store.append([small(1)]).stored == 1
    assert verify(tmp_path).faults == []


def test_nothing_is_written_to_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.append([small(0)])
        with monkeypatch.context() as full:
            full.setattr(segment_files, "RESERVE", 1 << 60)
            with pytest.raises(StoreError, match="the disk is full; the memory needs"):
                store.append([small(1)])
        assert store.append([small(1)]).stored == 1


@pytest.mark.parametrize("where", ["first page", "a vector"])
def test_damage_is_found(tmp_path: Path, where: str) -> None:
    with Store(tmp_path) as store:
        store.append([small(seq, vector=vector(seq, 768)) for seq in range(50)])
        path = store.current.path
    content = bytearray(path.read_bytes())
    at = 30 if where == "first page" else content.index(vector_bytes(path)) + 700
    content[at] ^= 0x10
    path.write_bytes(content)
    assert verify(tmp_path).faults


def vector_bytes(path: Path) -> bytes:
    with Segment(path) as segment:
        (data,) = segment.db.execute("SELECT vector FROM embeddings WHERE seq = 20").fetchone()
    return bytes(data)


def test_a_damaged_last_file_is_set_aside_and_the_loss_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(tmp_path, max_file=150_000) as store:
        for seq in range(0, 100, 4):
            store.append([small(seq + i) for i in range(4)])
        last = store.current.path
        kept = len(list(Memory(tmp_path).embeddings())) - store.current.count("embedding")
        assert kept > 0
    content = bytearray(last.read_bytes())
    content[100:4096] = b"\xaa" * 3996
    last.write_bytes(content)
    with Store(tmp_path) as store:
        store.append([small(100)])
    assert "is damaged and is set aside" in caplog.text
    assert [m.seq for m in Memory(tmp_path).embeddings()] == [*range(kept), 100]
    assert [(hole.first, hole.end, hole.reason) for hole in Memory(tmp_path).holes()] == [(kept, 100, "damaged")]
    assert len(verify(tmp_path).faults) == 1, "that a file was set aside"


def test_a_torn_log_costs_only_what_was_not_committed(tmp_path: Path) -> None:
    """As after a loss of power in the middle of a write: the end of the log is missing, or is another file's."""
    with Store(tmp_path) as store:
        store.append([small(0)])
        store.append([small(1)])
        path = store.current.path
        log = path.with_name(path.name + "-wal")
        for number, tail in enumerate((b"", b"\0" * 9000, b"\x55" * 5000)):
            folder = tmp_path / f"copy{number}"
            folder.mkdir()
            shutil.copy(path, folder)
            (folder / log.name).write_bytes(log.read_bytes()[: -4000 if not tail else None] + tail)
            with Store(folder) as copy:
                found = [m.seq for m in Memory(folder).embeddings()]
                assert found == ([0, 1] if tail else [0])
                copy.append([small(len(found))])
            assert verify(folder).faults == []


def test_what_a_killed_process_left_half_done_is_finished(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(seq) for seq in range(10)])
        path = store.current.path
    (tmp_path / "000001.closed.partial").write_bytes(b"half a copy")
    with Store(tmp_path):
        assert not (tmp_path / "000001.closed.partial").exists()
    original = path.read_bytes()
    rewrite(path)
    path.write_bytes(original)  # killed before the original was deleted
    with Store(tmp_path) as store:
        assert not path.exists()
        store.append([small(10)])
    assert [m.seq for m in Memory(tmp_path).embeddings()] == list(range(11))
    open_now = next(p for p in tmp_path.glob("*.sqlite") if "closed" not in p.name)
    (tmp_path / "000003.sqlite").touch()  # killed while it began a file
    assert open_now.exists()
    with Store(tmp_path) as store:
        assert store.append([small(5), small(11)]).duplicates == 1
    assert verify(tmp_path).faults == []


def test_a_file_appears_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To whoever opens it at that moment it is a file of the memory, with its log on and its tables filled."""
    seen = []

    def create(db: sqlite3.Connection) -> None:
        seen.append(segments(tmp_path))
        tables.create(db)
        seen.append(segments(tmp_path))

    monkeypatch.setattr(segment_module, "create", create)
    with Store(tmp_path, max_file=150_000) as store:
        first = store.current.path
        assert seen == [[], []]
        store.append([small(seq, vector=vector(seq, 768)) for seq in range(100)])
        store.append([small(100)])
        assert store.current.path != first
        assert seen[2:] == [[first], [first]]


def test_a_log_without_its_file_is_removed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(0)])
    for name in ("000007.sqlite-wal", "000007.sqlite-shm", "000008.closed.sqlite-journal"):
        (tmp_path / name).write_bytes(b"of a file that was deleted")
    with Store(tmp_path) as store:
        store.append([small(1)])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("000007", "000008"))]
    assert [m.seq for m in Memory(tmp_path).embeddings()] == [0, 1]


def test_a_file_that_is_deleted_while_it_is_opened_is_read_as_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log is deleted with it: what was opened would lack what the log holds."""
    with Store(tmp_path) as store:
        store.append([small(seq) for seq in range(5)])
        path = store.current.path
        real, opened = memory_folder.Segment, []

        def slow(candidate: Path) -> Segment:
            found = real(candidate)
            if not opened:
                opened.append(candidate)
                rewrite(path)
            return found

        monkeypatch.setattr(memory_folder, "Segment", slow)
        assert [m.seq for m in Memory(tmp_path).embeddings()] == [0, 1, 2, 3, 4]
        assert opened == [path]


def test_what_is_no_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no memory in"):
        Memory(tmp_path)
    foreign = sqlite3.connect(tmp_path / "000001.sqlite")
    foreign.execute("CREATE TABLE x (y)")
    foreign.close()
    with pytest.raises(StoreError, match="not one of mertd's"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="not one of mertd's"):
        list(Memory(tmp_path).embeddings())
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "memory")


def test_a_memory_of_which_nothing_can_be_read_is_still_one(tmp_path: Path) -> None:
    """Between the moment in which its only file is set aside and the next file."""
    (tmp_path / "000001.damaged").write_bytes(b"nothing")
    memory = Memory(tmp_path)
    assert everything(tmp_path) == []
    assert memory.spaces() == []
    assert memory.cursor() == {}
    with pytest.raises(StoreError, match="no vectors"):
        memory.similar(vector(0, 768))
