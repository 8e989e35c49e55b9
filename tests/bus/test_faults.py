"""The judge of the fault run: it sees what comes twice, out of order, or is missing without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.faults import read_client

RUN = "attic embedding room 00"
KEY = ("attic", "embedding", "room", "00")


def _read(folder: Path, *lines: str) -> list[int]:
    out = folder / "out"
    out.write_text("".join(f"{line}\n" for line in lines))
    return read_client(out).came[KEY]


def test_what_was_not_acknowledged_may_come_again_after_a_kill(tmp_path: Path) -> None:
    again = ["begun", f"{RUN} 0 0", "done", f"{RUN} 1 0", "begun", f"{RUN} 1 0", f"{RUN} 2 0", "done"]
    assert _read(tmp_path, *again) == [0, 1, 2]
    assert _read(tmp_path, "begun", f"{RUN} 0 0", "begun", "begun", f"{RUN} 0 0", "done") == [0]


@pytest.mark.parametrize(
    "lines",
    [
        ["begun", f"{RUN} 0 0", f"{RUN} 0 0"],
        ["begun", f"{RUN} 0 0", "done", "begun", f"{RUN} 0 0"],
        ["begun", f"{RUN} 0 0", f"{RUN} 1 0", "done", f"{RUN} 0 0"],
        ["begun", f"{RUN} 0 0", f"{RUN} 2 0"],
        ["begun", f"{RUN} 0 0", f"{RUN} 3 1"],
    ],
)
def test_what_must_not_happen_is_seen(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(AssertionError):
        _read(tmp_path, *lines)


def test_holes_that_are_announced_are_known(tmp_path: Path) -> None:
    assert _read(tmp_path, "begun", f"{RUN} 0 0", f"{RUN} 3 2") == [0, 3]
    assert read_client(tmp_path / "out").lost == {KEY: {1, 2}}
