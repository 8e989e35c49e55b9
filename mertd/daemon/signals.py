"""What tells the daemon to stop, or to read its configuration again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Within, SIGINT and SIGTERM call `stop`, and SIGHUP `reload`; after, they do what they did before. A stop that was held
    back until now counts.

    With a terminal, SIGHUP says that this has closed, and stops. Where it is ignored, as under nohup, it stays so.
    """

    def __init__(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        self._stop, self._reload = stop, reload
        self._handled = list(STOPPING)

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._handled.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self._stop if _has_terminal() else self._reload)
        if signal.sigpending() & set(STOPPING):
            self._stop()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOPPING))

    def __exit__(self, *_: object) -> None:
        for number in self._handled:
            asyncio.get_running_loop().remove_signal_handler(number)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
