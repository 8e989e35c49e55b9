"""Signals that ask a command to stop in order."""

from __future__ import annotations

import contextlib
import queue
import signal
from types import FrameType, TracebackType
from typing import Self


class StopSignals:
    """Within, the first Ctrl-C or SIGTERM is only remembered; another Ctrl-C ends the command at once.

    Signals may come at any moment, also while the one before is handled, as when `timeout` and a terminal both send one. So
    nothing here takes a lock: `threading.Event.set` would wait for itself.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the signal; 0: none
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()  # its `put` may interrupt itself
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> Self:
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:  # as in a background job of a shell without job control
                signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        self._told.put(None)

    def __call__(self) -> bool:
        """Whether to stop."""
        return bool(self.received)

    is_set = __call__

    def wait(self, timeout_s: float) -> bool:
        """Wait so many seconds, or until a signal comes. Return whether to stop."""
        if not self.received:
            with contextlib.suppress(queue.Empty):
                self._told.get(timeout=timeout_s)
        return self()
