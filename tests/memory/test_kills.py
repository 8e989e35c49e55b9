from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_nothing_is_lost_however_often_the_process_is_killed() -> None:
    """A process of its own, because it forks. CI runs it with more kills."""
    command = [sys.executable, str(Path(__file__).parent / "kills.py"), "--kills", "12"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(Path(__file__).parents[1])}
    )
    assert done.returncode == 0, done.stdout + done.stderr
