from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mertd.errors import StoreError
from mertd.stream.client.cursor_file import CursorFile
from mertd.stream.client.past import Place
from messages import BOOT, embedding, event

DAEMON = "tcp://127.0.0.1:5590"


def test_it_comes_back_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    first = CursorFile(path, since_ns=7)
    first.meet(DAEMON, "studio")
    first.expect(DAEMON, ("event", "room"), Place(BOOT, 3))
    first.done(DAEMON, embedding(11, "läte"))
    first.expect(DAEMON, ("event", "room"), Place(BOOT, 9))
    first.save()
    assert first.due_at == float("inf")
    first.done(DAEMON, event(3))
    assert first.due_at < float("inf")
    first.close()
    again = CursorFile(path)
    found = again.past(DAEMON)
    assert found._places == {
        ("embedding", "läte"): Place(BOOT, 12, 55_000_000_001),
        ("event", "room"): Place(BOOT, 4, 15_000_000_002),
    }
    assert found._since_ns == 7, "as long as some streams may have no place"
    again.arrived(DAEMON)
    again.close()
    last = CursorFile(path, since_ns=9)
    assert last.past(DAEMON)._since_ns is None
    assert last.past("tcp://another")._since_ns == 9
    last.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cursor", "cursor.lock"]


def test_a_second_client_is_refused_until_the_first_one_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    first = CursorFile(path)
    code = f"from mertd.stream.client.cursor_file import CursorFile; CursorFile({str(path)!r})"
    for _ in range(2):
        with pytest.raises(StoreError, match="is in use by another client; give each client a file of its own"):
            CursorFile(path)
    assert "is in use" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    del first
    CursorFile(path).close()


@pytest.mark.parametrize("damage", ["", "\0" * 64, "{", "[1]", "null", '{"mertd_cursor": 1}', "boot", "seq", "cut"])
def test_a_damaged_file_is_an_error_and_stays(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    cursor = CursorFile(path)
    cursor.done(DAEMON, embedding(11))
    cursor.close()
    whole = path.read_text()
    damaged = {"boot": whole.replace("0f", "0e"), "seq": whole.replace("12,", "13,"), "cut": whole[:-2]}.get(damage, damage)
    assert damaged != whole
    path.write_text(damaged)
    with pytest.raises(StoreError, match="is damaged, or is no cursor of mertd; delete it to begin anew"):
        CursorFile(path)
    assert path.read_text() == damaged


def test_what_else_cannot_be_used_is_said(tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.write_text('{"mertd_cursor": 2, "daemons": {}}')
    for path, said in (
        (newer, "is of version 2, and this mertd knows 1; update mertd"),
        (tmp_path, "is a directory"),
        (tmp_path / "absent" / "cursor", "cannot be"),
    ):
        with pytest.raises(StoreError, match=said):
            CursorFile(path)


def test_another_daemon_at_the_endpoint_is_refused(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path / "cursor")
    cursor.meet(DAEMON, "studio")
    cursor.meet(DAEMON, "studio")
    with pytest.raises(StoreError, match=r"is the daemon replay:studio, but the place in .* is of studio"):
        cursor.meet(DAEMON, "replay:studio")
    cursor.close()
