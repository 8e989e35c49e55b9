"""The journal of a batch: whatever a killed process has left is a whole number of records."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.offline.journal import MARK, PROBE_BYTES, Journal, JournalError

RECORDS = [(b"AAAA", b""), (b"BBBB", b"x" * 700), (b"CCCC", bytes(50)), (b"AAAA", b"last")]


def written(path: Path) -> list[int]:
    """Write RECORDS; return the size of the file after each of them."""
    with contextlib.closing(Journal(path, path)) as journal:
        sizes = [len(MARK)]
        for kind, content in RECORDS:
            journal.append(kind, content)
            sizes.append(path.stat().st_size)
    return sizes


def read(journal: Journal) -> list[tuple[bytes, bytes]]:
    return [(kind, content) for kind, _, content in journal.records()]


@given(data=st.data())
@settings(max_examples=examples(100))
def test_what_is_left_of_a_killed_process_is_whole_records(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, and followed by anything that a file system may leave there; and it can be written on."""
    path = tmp_path_factory.mktemp("journal") / "x.partial"
    sizes = written(path)
    cut = data.draw(st.integers(0, sizes[-1]))
    tail = data.draw(st.sampled_from([b"", bytes(1), bytes(300), bytes(PROBE_BYTES), b"\xff" * 40]))
    if cut < len(MARK):
        tail = tail if not tail.strip(b"\0") else b""
    original = path.read_bytes()
    path.write_bytes(left := original[:cut] + tail)
    whole = max((at for at, size in enumerate(sizes) if left[:size] == original[:size]), default=0)  # zeros may complete one
    with contextlib.closing(Journal(path, path)) as journal:
        assert read(journal) == RECORDS[:whole]
        assert journal.is_empty == (whole == 0)
        journal.append(b"NEXT", b"more")
    with contextlib.closing(Journal(path, path)) as journal:
        assert read(journal) == [*RECORDS[:whole], (b"NEXT", b"more")]


@given(position=st.integers(0, 2_000), bit=st.integers(0, 7))
@settings(max_examples=examples(60))
def test_what_is_damaged_is_not_believed(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "x.partial"
    sizes = written(path)
    content = bytearray(path.read_bytes())
    position = len(MARK) + position % (len(content) - len(MARK))
    content[position] ^= 1 << bit
    path.write_bytes(content)
    before = sum(size <= position for size in sizes) - 1
    with contextlib.closing(Journal(path, path)) as journal:
        assert read(journal) == RECORDS[:before]


def test_a_file_of_something_else_is_kept(tmp_path: Path) -> None:
    for content in (b"a download of somebody", b"PK\x03\x04" + bytes(100), bytes(PROBE_BYTES * 2), MARK[:-1] + b"2"):
        path = tmp_path / "x.partial"
        path.write_bytes(content)
        with pytest.raises(JournalError, match="holds something else; move it away"):
            Journal(path, path)
        assert path.read_bytes() == content


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    with contextlib.closing(Journal(path, path)) as journal:
        journal.append(*RECORDS[0])
        with pytest.raises(JournalError, match="is being written by another mertd"):
            Journal(path, path)
        assert read(journal) == RECORDS[:1]
    Journal(path, path).close()


def test_nothing_but_a_regular_file_is_written_and_no_link_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(precious)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        with pytest.raises(JournalError):
            Journal(tmp_path / name, precious)
    assert precious.read_bytes() == b"precious"


def test_it_is_as_private_as_what_it_will_replace(tmp_path: Path) -> None:
    like = tmp_path / "x"
    like.touch(0o600)
    Journal(tmp_path / "x.partial", like).close()
    assert stat.S_IMODE((tmp_path / "x.partial").stat().st_mode) == 0o600


PROGRAM = """
import resource, sys
from pathlib import Path
from mertd.offline.journal import Journal, JournalError
path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    journal = Journal(path, path)
    journal.append(b"AAAA", b"first")
    journal.append(b"BBBB", bytes(100_000))
except JournalError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "says", "kept"), [(1_000, "cannot be written: ", 0), (80_000, "cannot be written on: ", 1)])
def test_a_full_disk_is_found_at_once_or_leaves_what_was_written(tmp_path: Path, limit: int, says: str, kept: int) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    path = tmp_path / "x.partial"
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, str(limit)], capture_output=True, text=True, check=True)
    assert f"{path} {says}" in done.stdout
    with contextlib.closing(Journal(path, path)) as journal:
        assert read(journal) == [(b"AAAA", b"first")][:kept]


def test_standard_error_that_was_closed_is_not_written_into_it(tmp_path: Path) -> None:
    program = "import os, sys; from pathlib import Path; from mertd.offline.journal import Journal, MARK\n"
    program += "path = Path(sys.argv[1]); os.close(2); journal = Journal(path, path)\n"
    program += "try: os.write(2, b'a warning of a library')\nexcept OSError: pass\n"
    program += "print(path.read_bytes() == MARK)"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x")], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n"
