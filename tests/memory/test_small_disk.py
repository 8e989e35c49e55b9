from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WAYS = (
    ("unshare", "--user", "--map-root-user", "--mount"),
    ("unshare", "--mount"),
    ("sudo", "--non-interactive", "--preserve-env", "unshare", "--mount"),
)
"""How a user may mount what only one process sees, depending on the machine and the user."""


def way_to_mount() -> tuple[str, ...] | None:
    for way in WAYS:
        probe = [*way, "mount", "-t", "tmpfs", "none", "/mnt"]
        try:
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return way
        except FileNotFoundError:
            continue
    return None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs in a namespace of its own")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    way = way_to_mount()
    if way is None and "CI" not in os.environ:
        pytest.skip("this user may not mount anything")
    assert way is not None, "CI must let its user mount a tmpfs"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [*way, sys.executable, str(Path(__file__).parent / "small_disk.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
