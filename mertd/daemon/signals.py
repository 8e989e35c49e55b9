"""The signals that tell the daemon to stop, or to read its configuration again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop the daemon in order."""


class Signals:
    """A context in which SIGINT and SIGTERM call `stop`, and SIGHUP calls `reload`. Afterwards they have their default effect.

    A stop signal that was blocked and is pending calls `stop` on entry. With a controlling terminal, SIGHUP means that the
    terminal was closed, and calls `stop`. Where SIGHUP is ignored, as under nohup, it stays ignored.
    """

    def __init__(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        self._stop = stop
        self._reload = reload
        self._handled = list(STOP_SIGNALS)

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._handled.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self._stop if _has_terminal() else self._reload)
        if signal.sigpending() & set(STOP_SIGNALS):
            self._stop()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOP_SIGNALS))

    def __exit__(self, *_: object) -> None:
        for number in self._handled:
            asyncio.get_running_loop().remove_signal_handler(number)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
