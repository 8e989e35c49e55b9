from __future__ import annotations

import random
from pathlib import Path

import pytest

from soak import away, restarts


@pytest.mark.slow
def test_a_client_that_was_away_gets_everything_though_it_is_killed(tmp_path: Path) -> None:
    """Over three runs of the daemon, and on to the one that runs."""
    found = away.run(tmp_path, 3_000, 3, random.Random(3))
    assert found.messages > 3_000
    assert found.repeated <= 3 * 2 * 256


@pytest.mark.slow
def test_daemon_and_client_are_killed_and_the_client_has_all(tmp_path: Path) -> None:
    assert "in order" in restarts.run(tmp_path, 3, random.Random(7))
