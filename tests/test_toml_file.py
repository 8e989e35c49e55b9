"""TOML as editors write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mertd.errors import KeysError, UsageError
from mertd.toml_file import read_toml


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(end.join(["hop = 2.5", "name = 'Ärger'", ""]).encode(encoding))
    assert read_toml(path, UsageError) == {"hop": 2.5, "name": "Ärger"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("hop = 1".encode("utf-16"), "its encoding is UTF-16; save it as UTF-8"),
        ("hop = 1".encode("utf-16-be"), "is not TOML"),
        (b"\xef\xbb\xbf\xef\xbb\xbfhop = 1", "is not TOML"),
        (b"hop = '\xff'", "is not TOML"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_none(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    for failure in (UsageError, KeysError):
        with pytest.raises(failure, match=reason) as found:
            read_toml(path, failure)
        assert str(found.value).startswith(str(path))


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "x.toml", UsageError)
    with pytest.raises(UsageError, match="Is a directory"):
        read_toml(tmp_path, UsageError)
