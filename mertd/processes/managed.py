"""One supervised process over all its runs: it carries out what its `Health` decides, and keeps the last error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

from mertd.logs import log_fields
from mertd.processes.health import Bounds, Change, Health, Kill, Outcome, Start, State
from mertd.processes.parent import Child
from mertd.text import shorten

log = logging.getLogger(__name__)

LEVELS = {
    State.HEALTHY: logging.INFO,
    State.SUSPECT: logging.WARNING,
    State.RECOVERING: logging.WARNING,
    State.FAILED: logging.ERROR,
}


class Owner(Protocol):
    """Whoever knows what the process is for. All are called in the event loop."""

    def start(self) -> None:
        """Start the next process, with `Keeper.start`: the wait is over."""

    def heard(self, message: Any) -> None: ...

    def gone(self, how: str) -> None:
        """The process has ended, in this way. Say what follows: `died`, `renewed`, `gave_up`, or nothing if it was done."""

    def health_changed(self, process: str, change: Change) -> None:
        """To be published."""


class Keeper:
    """`last_error`, `last_error_ns`: what last went wrong with the process, in words, and when (Unix time)."""

    def __init__(self, name: str, module: str, bounds: Bounds, owner: Owner) -> None:
        self.name = name
        self.last_error, self.last_error_ns, self.restarts = "", 0, 0
        self._module, self._owner = module, owner
        self._health = Health(bounds, time.monotonic())
        self._child: Child | None = None
        self._next: asyncio.TimerHandle | None = None
        self._condemned = ""
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def state(self) -> State:
        return self._health.state

    @property
    def nth_death(self) -> int:
        """Which death in a row it would be if the process died now."""
        return self._health.nth(time.monotonic())

    @property
    def facts(self) -> dict[str, Any]:
        """For the status."""
        return {
            "pid": self.pid or 0,
            "restarts": self.restarts,
            "state": str(self.state),
            "last_error": self.last_error,
            "last_error_ns": self.last_error_ns,
        }

    def start(self, *args: Any) -> None:
        """Start a process; one that the system cannot start counts as one that died."""
        self._next, self._condemned = None, ""
        self._health.started(time.monotonic())
        try:
            self._child = Child(self.name, self._module, args, self)
        except OSError as error:
            self._owner.gone(f"could not be started: {error}")

    def send(self, message: Any) -> None:
        """Tell the process; in vain if there is none."""
        if self._child:
            self._child.send(message)

    def watch(self) -> None:
        """Called several times a second: replaces a process that hangs."""
        if self._child and not self._stopping:
            self._carry_out(self._health.tick(time.monotonic(), self._child.last_heard))

    # What the process does

    def heard(self, message: Any) -> None:
        """Called by the child."""
        if not self._stopping:
            self._owner.heard(message)

    def gone(self, how: str) -> None:
        """Called by the child."""
        self._child = None
        if not self._stopping:
            self._owner.gone(self._condemned or how)

    # What its owner makes of it

    def ready(self) -> None:
        """It has opened its source, or loaded its model."""
        self._carry_out(self._health.ready(time.monotonic()))

    def asked(self, patience_s: float) -> None:
        """It has been given work."""
        self._health.asked(time.monotonic(), patience_s)

    def worked(self) -> None:
        """It has answered, or brought audio."""
        self._carry_out(self._health.worked(time.monotonic()))

    def died(self, error: str) -> None:
        """It is gone, and another one is to take its place."""
        self._carry_out(self._health.died(time.monotonic(), self._went_wrong(error)))

    def replaced(self, error: str, reason: str) -> None:
        """It is gone, and something else takes its place."""
        self._went_wrong(error)
        self._carry_out(self._health.renewed(time.monotonic(), reason))

    def renewed(self, reason: str) -> None:
        """It ended in order, and the next one starts."""
        self._carry_out(self._health.renewed(time.monotonic(), reason))

    def gave_up(self, error: str) -> None:
        """It is gone, and nothing can take its place."""
        self._carry_out(self._health.gave_up(self._went_wrong(error)))

    async def stop(self, goodbye: Any, patience_s: float) -> None:
        """End the process: with a message and some patience, or at once if there is nothing to say."""
        self._stopping = True
        if self._next:
            self._next.cancel()
        if self._child:
            self._child.kill() if goodbye is None else self._child.send(goodbye)
            await self._child.ended(patience_s)

    async def rest(self, goodbye: Any, patience_s: float) -> None:
        """End the process as `stop` does, until `start` is called again."""
        await self.stop(goodbye, patience_s)
        self._health.rested(time.monotonic())
        self._stopping = False

    # Within

    def _went_wrong(self, error: str) -> str:
        """Keep the error, and give it in a line: of a traceback, which the log gets whole, the last."""
        self.last_error, self.last_error_ns = shorten(error), time.time_ns()
        lines = error.strip().splitlines() or [error]
        if len(lines) > 1:
            log.error("%s: %s", self.name, error)
        return lines[-1]

    def _carry_out(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Change(state, previous, reason):
                    more = log_fields(process=self.name, state=str(state), previous=str(previous), reason=reason)
                    verb = "has" if state is State.FAILED else "is"
                    log.log(LEVELS[state], "%s %s %s: %s", self.name, verb, state, reason, extra=more)
                    self._owner.health_changed(self.name, outcome)
                case Kill(reason):
                    self._condemned = reason
                    log.warning("%s %s; killing it", self.name, reason)
                    if self._child:
                        self._child.kill()
                case Start(wait_s):
                    if wait_s:
                        log.info("%s starts again in %.1f s", self.name, wait_s)
                    self._next = asyncio.get_running_loop().call_later(wait_s, self._owner.start)
