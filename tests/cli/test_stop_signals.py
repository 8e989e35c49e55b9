from __future__ import annotations

import subprocess
import sys
import time

from command_process import PATIENCE_S
from mertd.cli.stop_signals import StopSignals

AT_EVERY_LINE = """
import signal, sys
from mertd.cli.stop_signals import StopSignals

inside = False

def trace(frame, kind, value):
    global inside
    if kind == "line" and not inside:
        inside = True
        signal.raise_signal(signal.SIGTERM)
        inside = False
    return trace

def wait_and_be_told(stopping):
    for _ in range(3):
        stopping.received = 0
        stopping.wait(0.01)
        signal.raise_signal(signal.SIGTERM)
    return stopping.wait(60)

with StopSignals() as stopping:
    sys.settrace(trace)
    told = wait_and_be_told(stopping)
    sys.settrace(None)
print(told, stopping.is_set(), stopping())
"""
"""A command that gets a signal before every line of its own and of what it waits with, so also while it handles another one."""


def test_signals_that_come_while_one_is_handled_do_not_block_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EVERY_LINE], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True True True\n", "", 0)


def test_without_a_signal_a_wait_ends_by_itself() -> None:
    with StopSignals() as stopping:
        began = time.monotonic()
        assert not stopping.wait(0.01)
        assert time.monotonic() - began >= 0.01
        assert not stopping.is_set()
