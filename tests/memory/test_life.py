from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def live(seconds: float) -> None:
    """A process of its own, because it forks."""
    command = [sys.executable, str(Path(__file__).parent / "life.py"), "--seconds", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readers_see_all_that_is_stored_at_any_moment() -> None:
    live(0.5)


@pytest.mark.slow
def test_readers_see_all_that_is_stored_for_longer() -> None:
    live(5.0)
