"""The simulator of many streams, for a second."""

from __future__ import annotations

import re
import sys

import pytest

from bus import simulate


@pytest.mark.slow
@pytest.mark.parametrize("speed", [2, 0])
def test_all_that_was_written_is_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], speed: int) -> None:
    words = f"--servers 1 --streams 40 --daemons 2 --hop 1 --seconds 1 --speed {speed}"
    monkeypatch.setattr(sys, "argv", ["simulate", *words.split()])
    simulate.main()
    said = capsys.readouterr().out
    found = re.search(r"(\d+) messages in .* all on each server", said)
    assert found is not None, said
    assert int(found[1]) >= (70 if speed else 512)
    assert ("after it was due" in said) == (speed > 0)
