from __future__ import annotations

import subprocess
import sys
import time

from command_process import PATIENCE_S
from mertd.cli.stop_signals import StopSignals

FLOOD = """
import os, signal, threading
from mertd.cli.stop_signals import StopSignals

def send():
    for _ in range(3_000):
        os.kill(os.getpid(), signal.SIGTERM)

with StopSignals() as stopping:
    sender = threading.Thread(target=send)
    sender.start()
    while sender.is_alive():
        stopping.received = 0
        stopping.wait(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
    print(stopping.wait(60), stopping.is_set(), stopping())
"""
"""A command that gets signals while it handles the ones before, and while it begins and ends to wait."""


def test_signals_that_come_while_one_is_handled_do_not_block_it() -> None:
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("True True True\n", "", 0)


def test_without_a_signal_a_wait_ends_by_itself() -> None:
    with StopSignals() as stopping:
        began = time.monotonic()
        assert not stopping.wait(0.01)
        assert time.monotonic() - began >= 0.01
        assert not stopping.is_set()
