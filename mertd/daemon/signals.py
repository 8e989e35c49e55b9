"""What tells the daemon to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Within, SIGINT and SIGTERM call `stop`; after, they do what they did before. One that was held back until now counts."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._stop)
        if signal.sigpending() & set(STOPPING):
            self._stop()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOPPING))

    def __exit__(self, *_: object) -> None:
        for number in STOPPING:
            asyncio.get_running_loop().remove_signal_handler(number)
