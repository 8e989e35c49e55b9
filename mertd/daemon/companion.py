"""A process that the daemon starts with itself, and knows nothing else of: a client of its sockets, like any other.

Nothing in the daemon waits for it, and none of its faults is the daemon's: it is started again, with growing waits, for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mertd.processes.child import READY
from mertd.processes.health import Bounds, Change
from mertd.processes.managed import Crashed, ManagedProcess, Verdict
from mertd.processes.runs import Spawn, spawner

log = logging.getLogger(__name__)

BOUNDS = Bounds(opening_s=300.0, suspect_s=30.0, silent_s=300.0, ready_s=900.0, proven_s=10.0)
"""A slow disk may keep it from reporting for a minute."""

EXIT_S = 0.9
"""Seconds that it may take to end when asked to."""

STOP = "stop"
"""What the process is sent when it shall end."""


class Companion:
    """The role of such a process.

    Attributes:
        process: the process itself.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Callable[[], tuple[Any, ...]],
        on_reply: Callable[[Any], None] = lambda _: None,
        spawn: Spawn | None = None,
    ) -> None:
        """`module`: whose `main(*arguments(), pipe)` it runs. `on_reply`: is given what it says besides that it works.
        `spawn`: starts the process, by default the real one.
        """
        self.process = ManagedProcess(name, BOUNDS, self, spawn or spawner(name, module))
        self._arguments = arguments
        self._on_reply = on_reply

    async def stop(self) -> None:
        """Ask it to end, and kill it if it takes too long."""
        await self.process.stop(STOP, EXIT_S)

    # The role

    def arguments(self) -> tuple[Any, ...]:
        """Return what each run is told."""
        return self._arguments()

    def on_message(self, message: Any) -> None:
        """Note that it works."""
        if message == READY:
            self.process.ready()
            self.process.worked()
        else:
            self._on_reply(message)

    def on_exit(self, how: str) -> Verdict:
        """Start another one."""
        self.process.restarts += 1
        return Crashed(how)

    def on_change(self, process: str, change: Change) -> None:
        """The log and the status say it; it concerns no stream."""

    def on_bug(self, error: BaseException) -> None:
        """The daemon goes on without it."""
        log.error("%s is no longer managed, because of a bug", self.process.name, exc_info=error)


def log_page(message: Any) -> None:
    """Log where the page is that a process serves, when it says so."""
    match message:
        case ("page", str() as url):
            log.info("the page is at %s", url)
