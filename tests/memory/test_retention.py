from __future__ import annotations

from pathlib import Path

import pytest

from memory.stored import small, vector
from mertd.errors import UsageError
from mertd.memory import amounts, retention
from mertd.memory.amounts import Keep, parse_keep
from mertd.memory.checking import verify
from mertd.memory.memory import Memory
from mertd.memory.retention import Retention, folder_bytes, outdated
from mertd.memory.store import Store
from mertd.wire import Time

DAY_NS = 86_400 * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Keep()),
        ("2y", Keep(seconds=2 * 365 * 86_400)),
        ("30d", Keep(seconds=30 * 86_400)),
        (" 1.5 h ", Keep(seconds=5_400)),
        ("50GB", Keep(bytes=50 * 10**9)),
        ("1.5tb", Keep(bytes=1_500 * 10**9)),
    ],
)
def test_amounts(text: str | None, expected: Keep) -> None:
    assert parse_keep(text) == expected


@pytest.mark.parametrize("text", ["", "2", "y", "2 years", "-1d", "0d", "1e9y", "50MB", "2y 3d", "nan d", "9" * 30 + "y", "٣d"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError, match="keep: "):
        parse_keep(text)


@pytest.mark.parametrize("text", ["0GB", "50MB", "0.9 gb"])
def test_a_size_that_is_too_little(text: str) -> None:
    with pytest.raises(UsageError, match="is too little; keep at least 1GB"):
        parse_keep(text)


def days(folder: Path, count: int) -> None:
    """A file for each of so many days."""
    for day in range(count):
        with Store(folder, max_file=1 if day else 1 << 30) as store:
            start_ns = day * DAY_NS
            store.append([small(day, vector=vector(day, 768), time=Time(start_ns, start_ns + 30 * 10**9, 0, 0.0))])


def test_files_that_are_too_old_are_deleted_whole(tmp_path: Path) -> None:
    days(tmp_path, 5)
    (tmp_path / "000001.x.similar").touch()
    keep = Keep(seconds=86_400 * 2.5)
    assert [p.name for p in outdated(tmp_path, keep, 5 * DAY_NS)] == [
        "000001.closed.sqlite",
        "000002.closed.sqlite",
        "000003.closed.sqlite",
    ]
    assert outdated(tmp_path, Keep(), 5 * DAY_NS) == []
    assert len(outdated(tmp_path, keep, 10**9 * DAY_NS // 10**6)) == 4, "never the one that is being written"


def test_the_oldest_files_go_when_there_are_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amounts, "MIN_BYTES", 0)
    days(tmp_path, 5)
    size = folder_bytes(tmp_path)
    first = (tmp_path / "000001.closed.sqlite").stat().st_size
    deleted = Retention(tmp_path, Keep(bytes=size - first - 1)).apply()
    assert [p.name for p in deleted] == ["000001.closed.sqlite", "000002.closed.sqlite"]
    assert folder_bytes(tmp_path) < size
    assert [m.seq for m in Memory(tmp_path).embeddings()] == [2, 3, 4]
    assert verify(tmp_path).faults == []
    with Store(tmp_path) as store:
        assert store.append([small(0)]).duplicates == 1
    assert Retention(tmp_path, Keep()).apply() == []


def test_a_wrong_clock_deletes_nothing_and_keeps_nothing_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start without a network, a clock may be years ahead until it is set."""
    with Store(tmp_path) as store:  # the clock was wrong for one message
        store.append([small(0, "b", time=Time(10**4 * DAY_NS, 10**4 * DAY_NS + 1, 0, 0.0))])
    days(tmp_path, 4)
    now_ns, now_s = 4 * DAY_NS, 0.0
    monkeypatch.setattr(retention.time, "time_ns", lambda: now_ns)
    monkeypatch.setattr(retention.time, "monotonic", lambda: now_s)
    keep = Retention(tmp_path, Keep(seconds=86_400 * 2.5))
    count = len(list(tmp_path.glob("*.sqlite")))
    now_ns = 5 * 365 * DAY_NS
    assert keep.apply() == []
    now_s = 3_000.0
    now_ns = 3 * DAY_NS // 2
    assert keep.apply() == [], "the clock was set meanwhile"
    now_s = 4_000.0
    now_ns = 4 * DAY_NS
    assert keep.apply() == []
    now_s = 8_000.0
    assert [path.name for path in keep.apply()] == ["000001.closed.sqlite", "000002.closed.sqlite"]
    assert len(list(tmp_path.glob("*.sqlite"))) == count - 2
    assert verify(tmp_path).faults == []


def test_what_was_set_aside_goes_with_what_came_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amounts, "MIN_BYTES", 0)
    days(tmp_path, 4)
    for name in ("000000.damaged", "000000.damaged-wal", "000002.damaged"):
        (tmp_path / name).touch()
    first = (tmp_path / "000001.closed.sqlite").stat().st_size
    Retention(tmp_path, Keep(bytes=folder_bytes(tmp_path) - first // 2)).apply()
    assert [path.name for path in tmp_path.glob("*.damaged*")] == ["000002.damaged"]
