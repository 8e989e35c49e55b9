"""The examples, run as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from daemon_process import TINY, Daemon

EXAMPLES = Path(__file__).parents[2] / "examples"
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6} chords \(2, 64\) \[ ?-?\d+\.\d* +-?\d+\.\d* +-?\d+\.\d*\s*\]")


def test_subscribe() -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords") as daemon:
        daemon.bound()
        command = [sys.executable, EXAMPLES / "subscribe.py", daemon.publish, "3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert len({line.split("[")[1] for line in lines}) == 3  # the music moves, and so do the vectors


def test_subscribe_knows_nothing_of_mertd() -> None:
    source = (EXAMPLES / "subscribe.py").read_text()
    assert not re.search(r"^\s*(import|from) mertd", source, re.MULTILINE)
    assert len(source.splitlines()) <= 40
