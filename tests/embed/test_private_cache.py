"""What is kept between starts: private to one user, whole or absent, and never a reason to fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mertd.embed.private_cache import CacheUnusableError, keep, open_folder, read_kept


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mertd"


def test_what_is_kept_is_read_again_and_is_nobody_elses(root: Path) -> None:
    folder = open_folder("part")
    assert folder == root / "part"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert read_kept(folder / "x") is None
    keep(folder / "x", b"1")
    keep(folder / "x", b"22")
    assert read_kept(folder / "x") == b"22"
    assert (folder / "x").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == ["x"]


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(mode: int) -> None:
    open_folder("part").chmod(mode)
    with pytest.raises(CacheUnusableError, match="others may write to it"):
        open_folder("part")


def test_neither_is_a_file_that_others_may_write_to() -> None:
    path = open_folder("part") / "x"
    keep(path, b"1")
    path.chmod(0o620)
    assert read_kept(path) is None


def test_nor_a_link_a_folder_or_a_fifo(root: Path) -> None:
    folder = open_folder("part")
    keep(folder / "x", b"1")
    (folder / "link").symlink_to("x")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    assert [read_kept(folder / name) for name in ("link", "folder", "fifo")] == [None, None, None]
    (root / "linked").symlink_to("part")
    with pytest.raises(CacheUnusableError, match="is not a directory"):
        open_folder("linked")


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CacheUnusableError, match="Not a directory"):
        open_folder("part")
    with pytest.raises(CacheUnusableError, match="No such file or directory"):
        keep(tmp_path / "absent" / "x", b"1")


def test_the_oldest_make_way() -> None:
    folder = open_folder("part")
    for number in range(70):
        keep(folder / f"{number}.json", b"1")
        os.utime(folder / f"{number}.json", (number, number))
    keep(folder / "new.json", b"1")
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 64
    assert {"new.json", "69.json"} < names
    assert "0.json" not in names
