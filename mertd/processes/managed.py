"""One managed process over all its runs: started, watched, killed when it hangs, and started again as the policy says.

The life of a process can be read from top to bottom in `ManagedProcess._live`. What the process is for, its user supplies as a
`Role`; when the next run starts, `Health` decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mertd.logs import log_fields
from mertd.processes.health import Bounds, Change, Decision, Health, Kill, Start
from mertd.processes.runs import Run, Spawn
from mertd.text import shorten
from mertd.vocabulary import HealthState

log = logging.getLogger(__name__)

LOG_LEVELS = {
    HealthState.HEALTHY: logging.INFO,
    HealthState.SUSPECT: logging.WARNING,
    HealthState.RECOVERING: logging.WARNING,
    HealthState.FAILED: logging.ERROR,
}


@dataclass(frozen=True)
class Crashed:
    """The run ended unexpectedly: start again, after the wait that the policy chooses."""

    error: str


@dataclass(frozen=True)
class Renewed:
    """The run ended as it should, or another kind takes its place: start again immediately, without crashes."""

    reason: str
    error: str = ""  # what went wrong, if anything did


@dataclass(frozen=True)
class GaveUp:
    """The run has ended, and none can take its place."""

    error: str


@dataclass(frozen=True)
class Finished:
    """The work of the process is done."""


Verdict = Crashed | Renewed | GaveUp | Finished


class Role(Protocol):
    """What a managed process is for. Everything is called in the event loop."""

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the next run's `main`."""

    def on_message(self, message: Any) -> None:
        """Handle a message from the process."""

    def on_exit(self, how: str) -> Verdict:
        """The process has ended unasked, in this way, and all its messages were handled. Return what this means."""

    def on_change(self, process: str, change: Change) -> None:
        """The health of the process has changed."""

    def on_bug(self, error: BaseException) -> None:
        """The code that manages the process has a bug, and manages it no longer."""


class ManagedProcess:
    """A process that is started again whenever it ends, until it is stopped, finished or given up.

    Attributes:
        name: what status, events and logs call it.
        restarts: how often the role has counted a new run as a restart.
        last_error, last_error_ns: what last went wrong with it, in words, and when (Unix time).
    """

    def __init__(self, name: str, bounds: Bounds, role: Role, spawn: Spawn) -> None:
        self.name = name
        self.restarts = 0
        self.last_error = ""
        self.last_error_ns = 0
        self._role = role
        self._spawn = spawn
        self._health = Health(bounds, time.monotonic())
        self._run: Run | None = None
        self._hang = ""  # why the run was killed, if it was
        self._stopping = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    # Life

    def start(self) -> None:
        """Begin its life in the running event loop. It may begin again after `stop`."""
        self._stopping.clear()
        self._life = asyncio.get_running_loop().create_task(self._live(), name=self.name)
        self._life.add_done_callback(self._report_bug)

    async def _live(self) -> None:
        """Start a run, wait for its end, ask the role what it means and the policy when the next one starts; again."""
        while not self._stopping.is_set():
            how = await self._run_once()
            if self._stopping.is_set():
                return
            wait_s = self._decide(self._role.on_exit(how))
            if wait_s is None:
                return
            if wait_s:
                log.info("%s starts again in %.1f s", self.name, wait_s)
            await self._sleep(wait_s)

    async def _run_once(self) -> str:
        """Start one run and wait for its end. Return how it ended; a run that the system cannot start has ended, too."""
        self._hang = ""
        self._health.started(self._now())
        try:
            self._run = self._spawn(self._role.arguments(), self._on_message)
        except OSError as error:
            return f"could not be started: {error}"
        try:
            how = await self._run.exited()
        finally:
            self._run = None
        return self._hang or how

    def _decide(self, verdict: Verdict) -> float | None:
        """Return how many seconds to wait before the next run, or None if there will be none."""
        now = self._now()
        match verdict:
            case Crashed(error):
                decisions = self._health.died(now, self._remember(error))
            case Renewed(reason, error):
                if error:
                    self._remember(error)
                decisions = self._health.renewed(now, reason)
            case GaveUp(error):
                decisions = self._health.gave_up(self._remember(error))
            case Finished():
                decisions = []
        self._carry_out(decisions)
        return next((decision.wait_s for decision in decisions if isinstance(decision, Start)), None)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond a stop."""
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([stop], timeout=seconds)
        stop.cancel()

    async def stop(self, goodbye: Any, patience_s: float) -> None:
        """End the process: ask it with a message and kill it after `patience_s`, or kill it at once if `goodbye` is None."""
        self._stopping.set()
        if self._run is not None:
            if goodbye is None:
                self._run.kill()
            else:
                self._run.send(goodbye)
            await self._run.exited(patience_s)
        if self._life is not None:
            await asyncio.wait([self._life])
            self._life = None
        self._health.rested(self._now())

    def kill(self) -> None:
        """Kill the process and start no other. For when `stop` has failed: a child must not outlive the daemon."""
        self._stopping.set()
        if self._run is not None:
            self._run.kill()

    def _report_bug(self, life: asyncio.Task[None]) -> None:
        if not life.cancelled() and (error := life.exception()) is not None:
            self._role.on_bug(error)

    # What happens meanwhile

    def send(self, message: Any) -> None:
        """Send a message to the process, if there is one."""
        if self._run is not None:
            self._run.send(message)

    def receive(self) -> bool:
        """Take in all that it has sent by now. Return whether that could be done."""
        return self._run is not None and self._run.receive()

    def watch(self) -> None:
        """Kill the process if it hangs. Call this several times a second."""
        if self._run is not None and not self._stopping.is_set():
            self._carry_out(self._health.tick(self._now(), self._run.last_heard))

    def ready(self) -> None:
        """Record that it has opened its source, or loaded its model."""
        self._carry_out(self._health.ready(self._now()))

    def asked(self, patience_s: float) -> None:
        """Record that it was given work, which it must answer within `patience_s` seconds."""
        self._health.asked(self._now(), patience_s)

    def worked(self) -> None:
        """Record that it has answered, or delivered audio."""
        self._carry_out(self._health.worked(self._now()))

    def _on_message(self, message: Any) -> None:
        if not self._stopping.is_set():
            self._role.on_message(message)

    # What it looks like from outside

    @property
    def pid(self) -> int | None:
        return self._run.pid if self._run is not None else None

    @property
    def stopping(self) -> bool:
        """Whether it is being stopped, or was."""
        return self._stopping.is_set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped and nothing of it is left, so that it may be started again."""
        return self._stopping.is_set() and self._life is None

    @property
    def nth_crash(self) -> int:
        """Which crash in a row it would be if the process died now."""
        return self._health.nth_crash(self._now())

    @property
    def as_dict(self) -> dict[str, Any]:
        """What the status says about it."""
        return {
            "pid": self.pid or 0,
            "restarts": self.restarts,
            "state": self._health.state.value,
            "last_error": self.last_error,
            "last_error_ns": self.last_error_ns,
        }

    # Within

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _remember(self, error: str) -> str:
        """Keep the error, and return its last line: of a traceback, which is logged as a whole, what it is about."""
        self.last_error = shorten(error)
        self.last_error_ns = time.time_ns()
        lines = error.strip().splitlines() or [error]
        if len(lines) > 1:
            log.error("%s: %s", self.name, error)
        return lines[-1]

    def _carry_out(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Change(state, previous, reason):
                    extra = log_fields(process=self.name, state=state.value, previous=previous.value, reason=reason)
                    verb = "has" if state is HealthState.FAILED else "is"
                    log.log(LOG_LEVELS[state], "%s %s %s: %s", self.name, verb, state, reason, extra=extra)
                    self._role.on_change(self.name, decision)
                case Kill(reason):
                    self._hang = reason
                    log.warning("%s %s; killing it", self.name, reason)
                    if self._run is not None:
                        self._run.kill()
                case Start():
                    pass  # `_live` does it
