"""The agent's log stays small, and no line of it is lost or cut by that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mertd.service.log_rotation import KEPT, rotate_if_large


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "mertd.log"


def opened(path: Path) -> int:
    """Open the log as launchd does."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def test_no_line_is_lost_and_old_logs_are_limited(log: Path) -> None:
    first, second = opened(log), opened(log)
    for number in range(100):
        os.write((first, second)[number % 2], f"line {number:3}\n".encode())
        rotate_if_large(log, 100, (first, second))
    kept = [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, KEPT + 1))]
    assert sorted(log.parent.iterdir()) == sorted(kept)
    text = "".join(path.read_text() for path in reversed(kept))
    lines = text.splitlines()
    assert lines == [f"line {number:3}" for number in range(100 - len(lines), 100)]
    assert log.stat().st_mode & 0o777 == 0o600
    os.close(first)
    os.close(second)


def test_what_is_no_log_is_left_alone(log: Path) -> None:
    """A terminal, or a file that somebody has put in the log's place."""
    own = opened(log)
    os.write(own, bytes(200))
    log.rename(log.with_name("moved"))
    log.write_text("another's")
    assert not rotate_if_large(log, 100, (own,))
    assert log.read_text() == "another's"
    os.close(own)
    reading, writing = os.pipe()
    assert not rotate_if_large(log, 100, (writing,))
    os.close(reading)
    os.close(writing)
