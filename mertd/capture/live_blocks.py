"""The blocks of an open device, until it is lost, stalls or is not the one any more that should be heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mertd.capture.assembler import Assembler
from mertd.capture.input_monitor import InputMonitor
from mertd.capture.limits import BLOCK_S
from mertd.capture.source import Block
from mertd.errors import SourceError

FIRST_BLOCK_S = 15.0
"""Seconds without a buffer after the start until the device counts as dead."""

STALL_S = 2.0
"""Seconds without a buffer later on until the device counts as dead."""


def live_blocks(
    name: str, assembler: Assembler, monitor: InputMonitor, is_running: Callable[[], bool]
) -> Iterator[Block | None]:
    """Yield blocks as the device called `name` delivers them, and None while there are none.

    `is_running`: called before each look at the buffers, so that it may fetch them. Raises `SourceError`, to be retried, when
    the device is lost.
    """
    last, timeout_s = time.monotonic(), FIRST_BLOCK_S
    while True:
        time.sleep(BLOCK_S)
        if monitor.problem:
            raise SourceError(f"{name}: {monitor.problem}", retry=True)
        running = is_running()
        if assembler.has_buffers:
            last, timeout_s = time.monotonic(), STALL_S
            yield from assembler.blocks()
            continue
        if not running:
            raise SourceError(f"{name} was lost", retry=True)
        if time.monotonic() - last > timeout_s:
            raise SourceError(f"{name} has delivered nothing for {timeout_s:.0f} s", retry=True)
        yield None
