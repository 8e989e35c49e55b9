from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mertd
from command_process import PATIENCE_S, wait_until
from memory.stored import small
from mertd.cli.app import run
from mertd.errors import SpaceError, StoreError
from mertd.memory import memory_folder, similar_search
from mertd.memory.file_group import FileGroup, OpenGroups
from mertd.memory.forgetting import Scope, forget
from mertd.memory.index_builder import IndexBuilder
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import complete_groups, segments
from mertd.memory.searched_file import SearchedFile
from mertd.memory.segment import Segment
from mertd.memory.segment_files import version_of
from mertd.memory.similar_search import SimilarSearch
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.vector_segment import SegmentTable, SpanFilter
from mertd.memory.store import Store
from mertd.wire import Embedding, Time
from messages import MODEL

SIZE = 32
HOP_NS = 5 * 10**9
BEGIN_NS = 1_790_000_000 * 10**9
COUNT = 3_000
RETURN = (700, 2_500)
"""Windows that sound alike although half the memory lies between them."""


def music(count: int) -> np.ndarray:
    """A slow drift around a common direction, as pooled vectors have it; one moment comes back."""
    random = np.random.default_rng(5)
    steps = random.standard_normal((count, SIZE)).astype(np.float32)
    vectors = np.zeros((count, SIZE), np.float32)
    for i in range(1, count):
        vectors[i] = vectors[i - 1] * 0.9 + steps[i]
    vectors[RETURN[1]] = vectors[RETURN[0]] + 0.05
    return vectors + 30


VECTORS = music(COUNT)


def message(seq: int) -> Embedding:
    start = BEGIN_NS + seq * HOP_NS
    return small(seq, vector=VECTORS[seq][None], time=Time(start, start + 30 * 10**9, 0, 0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two full files and one that is being written."""
    path = tmp_path_factory.mktemp("memory")
    with Store(path, max_file=220_000) as store:
        for seq in range(0, COUNT, 100):
            store.append([message(n) for n in range(seq, seq + 100)])
        yield path


def exact(vector: np.ndarray, count: int) -> list[int]:
    """The most similar windows, computed as a user would."""
    centred = VECTORS.astype(np.float64) - VECTORS.mean(axis=0)
    query = vector - VECTORS.mean(axis=0)
    scores = centred @ query / np.linalg.norm(centred, axis=1) / np.linalg.norm(query)
    return [int(i) for i in np.argsort(-scores)[:count]]


def own(seq: int) -> SpanFilter:
    start = BEGIN_NS + seq * HOP_NS
    return SpanFilter(without=((start, start + 30 * 10**9),))


def test_what_comes_back_is_found_and_is_said_to_be_unusual(folder: Path) -> None:
    assert len(list(folder.glob("*.closed.sqlite"))) >= 2
    memory = mertd.Memory(folder)
    found = memory.similar(VECTORS[RETURN[1]], count=3, allowed=own(RETURN[1]))
    assert found[0].best_start_ns == BEGIN_NS + RETURN[0] * HOP_NS
    assert found[0].similarity > 0.99
    assert found[0].percentile is not None
    assert found[0].percentile > 99.9
    assert len(list(folder.glob("*.similar"))) == len(list(folder.glob("*.closed.sqlite")))
    assert memory.streams()[found[0].stream] == ("studio", "room")
    again = memory.similar(VECTORS[RETURN[1]], count=3, allowed=own(RETURN[1]))
    assert again == found


def test_it_finds_what_comparing_everything_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = SimilarSearch(folder, MODEL.space)
    monkeypatch.setattr(similar_search, "has_index_library", lambda: False)
    scanning = SimilarSearch(folder, MODEL.space)
    for seq in range(10, COUNT, 400):
        best = exact(VECTORS[seq], 1)[0]
        assert best == seq
        a = indexed.find(VECTORS[seq], 5)
        b = scanning.find(VECTORS[seq], 5)
        assert a[0].best_start_ns == b[0].best_start_ns == BEGIN_NS + best * HOP_NS
        assert {m.best_id for m in a[:3]} == {m.best_id for m in b[:3]}
    indexed.close()
    scanning.close()


def test_what_is_stored_and_forgotten_meanwhile_counts(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=220_000) as store:
        store.append([message(n) for n in range(2_400)])
        search = SimilarSearch(tmp_path, MODEL.space)
        assert search.find(VECTORS[RETURN[1]], 1)[0].best_start_ns == BEGIN_NS + RETURN[0] * HOP_NS
        store.append([message(n) for n in range(2_400, COUNT)])
        assert search.find(VECTORS[RETURN[1]], 1)[0].best_start_ns == BEGIN_NS + RETURN[1] * HOP_NS
        forget(tmp_path, Scope(BEGIN_NS + 1_000 * HOP_NS))
        found = search.find(VECTORS[RETURN[1]], 20, own(RETURN[1]))
        assert min(m.start_ns for m in found) >= BEGIN_NS + 990 * HOP_NS
        search.close()


def test_what_is_forgotten_while_an_index_is_built_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path, max_file=220_000) as store:
        store.append([message(n) for n in range(2_400)])
        store.append([message(2_400)])
    before = segments(tmp_path)[0]
    fit = Frame.fit

    def forgetting(*given: Any) -> Frame:
        forget(tmp_path, Scope(BEGIN_NS + 1_000 * HOP_NS))
        return fit(*given)

    with Segment(before) as segment:
        part = SearchedFile(segment, MODEL.space)
        part.refresh(lambda _: None)
        monkeypatch.setattr(Frame, "fit", forgetting)
        part.ensure_index(part.statistics.centre, lambda _: None)
        assert part.index is None
    assert not [*tmp_path.glob("*.similar"), *tmp_path.glob("*.centre"), *tmp_path.glob(".*.partial")]
    monkeypatch.undo()
    found = Memory(tmp_path).similar(VECTORS[700], count=20)
    assert min(m.start_ns for m in found) >= BEGIN_NS + 990 * HOP_NS


def test_a_few_windows_of_another_stream_are_found_behind_thousands_that_are_nearer(tmp_path: Path) -> None:
    """An index that looks at the nearest first, and filters then, finds none of them."""
    rare = [replace(message(n), stream="rare", vector=-VECTORS[n][None]) for n in range(12)]
    with Store(tmp_path, max_file=220_000) as store:
        for seq in range(0, COUNT, 500):
            store.append([message(n) for n in range(seq, seq + 500)])
            store.append([replace(m, seq=at) for at, m in enumerate(rare[: 2 * (seq // 500 + 1)])])
    memory = Memory(tmp_path)
    number = next(number for number, (_, name) in memory.streams().items() if name == "rare")
    found = memory.similar(VECTORS[40], count=5, allowed=SpanFilter(streams=frozenset({number})))
    assert found
    assert {moment.stream for moment in found} == {number}


def test_damaged_or_foreign_files_are_built_again(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=220_000) as store:
        for seq in range(0, COUNT, 500):
            store.append([message(n) for n in range(seq, seq + 500)])
    expected = Memory(tmp_path).similar(VECTORS[5])
    for path in [*tmp_path.glob("*.similar"), *tmp_path.glob("*.centre")]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        content[-3] ^= 0xFF
        path.write_bytes(content)
    assert Memory(tmp_path).similar(VECTORS[5]) == expected
    for path in tmp_path.glob("*.centre"):
        path.write_bytes(b"")
    assert Memory(tmp_path).similar(VECTORS[5]) == expected


def test_the_process_that_remembers_builds_the_indexes(tmp_path: Path) -> None:
    with Store(tmp_path, max_file=100_000) as store:
        for seq in range(0, 2_000, 500):
            store.append([message(n) for n in range(seq, seq + 500)])
    full = len(list(tmp_path.glob("*.closed.sqlite")))
    assert full > 0
    builder = IndexBuilder(tmp_path)
    builder.start()
    wait_until(lambda: len(list(tmp_path.glob("*.similar"))) == full, PATIENCE_S, lambda: "no index")
    builder.build()
    before = {path.name: version_of(path) for path in tmp_path.glob("*.similar")}
    forget(tmp_path, Scope(BEGIN_NS + 100 * HOP_NS))
    assert len(list(tmp_path.glob("*.similar"))) == full - 1, "that of the file that was changed is gone"
    builder.start()
    wait_until(lambda: len(list(tmp_path.glob("*.similar"))) == full, PATIENCE_S, lambda: "no index of the new file")
    after = {path.name: version_of(path) for path in tmp_path.glob("*.similar")}
    assert len({*before.items()} & {*after.items()}) == full - 1, "the others are not built again"
    builder.stop()


@pytest.fixture(scope="module")
def grouped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grouped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_folder, "GROUP_FILES", 3)
        with Store(folder, max_file=100_000) as store:
            for seq in range(0, COUNT, 400):
                store.append([message(n) for n in range(seq, min(seq + 400, COUNT))])
        assert len(segments(folder)) in (7, 8)
        IndexBuilder(folder).build()
    return folder


@pytest.fixture
def grouped(grouped_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven files of which the first six make two groups, with all indexes."""
    monkeypatch.setattr(memory_folder, "GROUP_FILES", 3)
    folder = tmp_path / "memory"
    shutil.copytree(grouped_once, folder)
    assert groups_in(folder) == ["000001-000003.sp.similar", "000004-000006.sp.similar"]
    return folder


def groups_in(folder: Path) -> list[str]:
    return sorted(path.name.replace(MODEL.space, "sp") for path in folder.glob("*-*.similar"))


def test_files_that_are_searched_together_answer_as_each_alone(grouped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = SimilarSearch(grouped, MODEL.space)
    alone = SimilarSearch(grouped, MODEL.space)
    monkeypatch.setattr(OpenGroups, "update", lambda *_: [])
    separately = [alone.find(VECTORS[seq], 5, own(seq)) for seq in range(10, COUNT, 300)]
    monkeypatch.undo()
    monkeypatch.setattr(memory_folder, "GROUP_FILES", 3)
    together = [search.find(VECTORS[seq], 5, own(seq)) for seq in range(10, COUNT, 300)]
    assert [[m.best_id for m in found] for found in together] == [[m.best_id for m in found] for found in separately]
    late = SpanFilter(since_ns=BEGIN_NS + 2_000 * HOP_NS)
    assert all(m.start_ns >= BEGIN_NS + 2_000 * HOP_NS for m in search.find(VECTORS[5], 20, late))
    (file,) = {part.index is None for part in search._parts.values() if part.number <= 6}
    assert file, "no file of a group is searched by an index of its own, too"
    search.close()
    alone.close()


@pytest.mark.parametrize("damage", [b"", b"nothing that mertd wrote", None])
def test_without_the_index_of_a_group_each_file_is_searched_and_the_next_one_is_taken(
    grouped: Path, damage: bytes | None
) -> None:
    search = SimilarSearch(grouped, MODEL.space)
    expected = search.find(VECTORS[5], 3)
    path = next(grouped.glob("000001-*.similar"))
    whole = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert search.find(VECTORS[5], 3) == expected
    assert [part.index is not None for part in search._parts.values()] == [True] * 3 + [False] * 3 + [True] * (
        len(search._parts) - 6
    )
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    assert len(search._groups.update([part for part in search._parts.values() if part.closed], 7)) == 2
    assert search.find(VECTORS[5], 3) == expected
    search.close()


def test_what_is_forgotten_is_in_no_index_of_a_group(grouped: Path) -> None:
    search = SimilarSearch(grouped, MODEL.space)
    search.find(VECTORS[5], 3)
    half = grouped / ".000001-000003.x.similar.1.partial"
    half.write_bytes(b"what a killed process had begun")
    forget(grouped, Scope(BEGIN_NS + 100 * HOP_NS))
    assert groups_in(grouped) == ["000004-000006.sp.similar"]
    assert not half.exists()
    found = search.find(VECTORS[50], 20)
    assert min(m.start_ns for m in found) >= BEGIN_NS + 90 * HOP_NS
    builder = IndexBuilder(grouped)
    builder.start()
    wait_until(lambda: len(groups_in(grouped)) == 2, PATIENCE_S, lambda: "the index of the group is not built again")
    builder.stop()
    assert search.find(VECTORS[50], 20)[:8] == found[:8]
    search.close()


def test_what_is_forgotten_while_the_index_of_a_group_is_built_is_not_in_it(
    grouped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(grouped.glob("000001-*.similar")).unlink()
    table = FileGroup.table

    def forgetting(group: FileGroup) -> SegmentTable:
        found = table(group)
        forget(grouped, Scope(BEGIN_NS + 100 * HOP_NS))
        return found

    monkeypatch.setattr(FileGroup, "table", forgetting)
    IndexBuilder(grouped).build()
    assert groups_in(grouped) == ["000004-000006.sp.similar"]
    assert not list(grouped.glob(".*.partial"))


def test_which_files_make_a_group() -> None:
    assert complete_groups([], 0) == {}
    assert complete_groups(range(1, 9), 8) == {}, "the last file may still grow"
    assert complete_groups(range(1, 9), 9) == {0: [*range(1, 9)]}
    assert complete_groups([8, 9, 12, 13], 17) == {1: [9, 12, 13]}, "one file alone is no group"


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="the vector has shape"):
        mertd.Memory(folder).similar([1, 2, 3])
    with pytest.raises(StoreError, match="no vectors of space other"):
        SimilarSearch(folder, "other").find(VECTORS[0])
    with pytest.raises(StoreError, match="no memory in"):
        mertd.Memory(tmp_path)


def command(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mertd", "similar", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, input=given, check=False, timeout=PATIENCE_S)


@pytest.mark.slow
def test_the_command(folder: Path) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(BEGIN_NS // 10**9 + RETURN[1] * 5 + 15))
    found = command("--at", when, "--memory", folder, "--count", 2, "--json")
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert lines[0]["best_start_ns"] == BEGIN_NS + RETURN[0] * HOP_NS
    assert lines[0]["stream"] == "room"
    given = command("-", "--memory", folder, "--count", 1, given=json.dumps(VECTORS[42].tolist()))
    assert "more alike than 9" in given.stdout
    assert "percentiles among" in given.stdout
    shown = command("--now", "--memory", folder)
    assert shown.stdout.startswith("like 20")
    assert "similarity" in shown.stdout


@pytest.mark.parametrize(
    ("words", "given", "complaint"),
    [
        ([], "", "needs one of --now, --at TIME, a sound file"),
        (["--now", "--at", "2h"], "", "needs one of"),
        (["-"], "words", "standard input holds no vector"),
        (["-"], "[1, 2]", "0 spaces of the memory have vectors of 2 numbers"),
        (["--at", "2001-01-01"], "", "nothing is remembered within an hour of this time"),
        (["--now", "--stream", "x"], "", "no embeddings of these streams"),
        (["nothing.wav"], "", "nothing.wav: no such file"),
    ],
)
def test_mistakes_of_the_command(
    folder: Path,
    words: list[str],
    given: str,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert run(["similar", *words, "--memory", str(folder)]) in (2, 3)
    assert complaint in capsys.readouterr().err
