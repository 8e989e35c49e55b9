from __future__ import annotations

from pathlib import Path

import pytest

from memory.stored import small, vector
from mertd.errors import UsageError
from mertd.memory import amounts
from mertd.memory.amounts import Keep, parse_keep
from mertd.memory.checking import verify
from mertd.memory.memory import Memory
from mertd.memory.retention import folder_bytes, outdated, retain
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
    deleted = retain(tmp_path, Keep(bytes=size - first - 1))
    assert [p.name for p in deleted] == ["000001.closed.sqlite", "000002.closed.sqlite"]
    assert folder_bytes(tmp_path) < size
    assert [m.seq for m in Memory(tmp_path).embeddings()] == [2, 3, 4]
    assert verify(tmp_path).faults == []
    with Store(tmp_path) as store:
        assert store.append([small(0)]).duplicates == 1
    assert retain(tmp_path, Keep()) == []
