"""The restart policy: is a child process doing well, must it be killed, and when does the next one start. A state machine.

Rules of this file: no process, no clock, no I/O. Observations come in with their monotonic time in seconds. Decisions come out:
changes of state, each reported once, and what has to be done. The tests check these promises: a process that reports, answers
and becomes ready in time is never killed; a silent one always is; a wait never exceeds its limit; from every state, a new
process that works leads back to `healthy`. `mertd.vocabulary.HealthState` says what the states mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from mertd.vocabulary import HealthState

CRASH_LIMIT = 3
"""Consecutive crashes after which the process counts as failed."""

SECOND_WAIT_S = 0.5
"""Seconds to wait before the second restart in a row. The first one is immediate; each later wait is twice the one before."""

MAX_WAIT_S = 3.0
"""Longest wait for a process that was ready a short time ago, in seconds."""

AWAY_WAIT_RATIO = 0.05
"""Longest wait for a process that was last ready a long time ago, as a fraction of that time."""

MAX_AWAY_WAIT_S = 30.0
"""Longest wait of all, in seconds."""

LATE_TICK_S = 0.75
"""Seconds between two ticks above which the parent itself was not running, so that it cannot judge its children by them."""


@dataclass(frozen=True)
class Bounds:
    """Time limits of one kind of process, in seconds."""

    opening_s: float  # without a message before it is ready: it hangs
    suspect_s: float  # without a message once it is ready: it is suspect
    silent_s: float  # without a message once it is ready: it hangs
    ready_s: float  # from its start until it must be ready, however often it reports
    proven_s: float  # of being ready after which a process that has also done some work counts as reliable


@dataclass(frozen=True)
class Change:
    """The state has changed."""

    state: HealthState
    previous: HealthState
    reason: str


@dataclass(frozen=True)
class Kill:
    """The process hangs: kill it, and call `died` when it is gone."""

    reason: str


@dataclass(frozen=True)
class Start:
    """Start the next process after `wait_s` seconds."""

    wait_s: float


Decision = Change | Kill | Start


class Health:
    """The policy for one managed process over all its runs.

    Attributes:
        state: the current state.
        crashes: consecutive runs that crashed before they were proven.
    """

    def __init__(self, bounds: Bounds, now: float) -> None:
        self.state = HealthState.RECOVERING
        self.crashes = 0
        self._bounds = bounds
        self._last_tick = now
        self._last_ready = now  # when a process was last ready
        self._started_at: float | None = None
        self._ready_at: float | None = None
        self._heard_at = now  # from when silence is counted
        self._asked_at: float | None = None
        self._patience_s = 0.0
        self._worked = False
        self._condemned = False

    def started(self, now: float) -> None:
        """A process was started."""
        self._started_at = self._heard_at = now
        self._ready_at = self._asked_at = None
        self._worked = self._condemned = False

    def ready(self, now: float) -> list[Decision]:
        """It has opened its source, or loaded its model. A process that has failed must first do some work to be healthy."""
        self._ready_at = self._heard_at = self._last_ready = now
        return self._become(HealthState.HEALTHY, "ready") if self.state is not HealthState.FAILED else []

    def asked(self, now: float, patience_s: float) -> None:
        """It was given work, and must answer within `patience_s` seconds."""
        self._asked_at = now
        self._patience_s = patience_s

    def worked(self, now: float) -> list[Decision]:
        """It has answered, or delivered audio."""
        self._heard_at = now
        self._asked_at = None
        self._worked = True
        if self.state is HealthState.FAILED:
            return self._become(HealthState.HEALTHY, "works again")
        return self._check_suspicion(now)

    def nth_crash(self, now: float) -> int:
        """Return which crash in a row it would be if the process died now: 1 if this run is proven."""
        proven = self._ready_at is not None and self._worked and now - self._ready_at >= self._bounds.proven_s
        return 1 if proven else self.crashes + 1

    def died(self, now: float, reason: str) -> list[Decision]:
        """The process ended unexpectedly. The next one starts immediately the first time, then after growing waits."""
        self.crashes = self.nth_crash(now)
        if self._ready_at is not None:
            self._last_ready = now
        self._forget_run()
        failed = self.state is HealthState.FAILED or self.crashes >= CRASH_LIMIT
        changes = self._become(HealthState.FAILED if failed else HealthState.RECOVERING, reason)
        return [*changes, Start(wait_s(self.crashes, now - self._last_ready))]

    def renewed(self, now: float, reason: str) -> list[Decision]:
        """The process ended as it should, or another kind takes its place: the next one starts immediately, without crashes."""
        self.rested(now)
        return [*self._become(HealthState.RECOVERING, reason), Start(0.0)]

    def rested(self, now: float) -> None:
        """The process was stopped on request: this is no crash, and the state does not change."""
        self._forget_run()
        self.crashes = 0
        self._last_ready = now

    def gave_up(self, reason: str) -> list[Decision]:
        """The process is gone, and none can take its place."""
        self._forget_run()
        return self._become(HealthState.FAILED, reason)

    def tick(self, now: float, heard_at: float) -> list[Decision]:
        """Time has passed, and the last message came at `heard_at`. Call this several times a second."""
        gap = now - self._last_tick
        self._last_tick = now
        if gap > LATE_TICK_S:  # the parent was stopped, or the machine slept: the children may not have run either
            self._heard_at = now
            self._asked_at = None if self._asked_at is None else self._asked_at + gap
            self._started_at = None if self._started_at is None else self._started_at + gap
        if self._started_at is None or self._condemned:
            return []
        self._heard_at = max(self._heard_at, heard_at)
        if self._ready_at is not None:
            self._last_ready = now
        if reason := self._find_hang(now, self._started_at):
            self._condemned = True
            return [Kill(reason)]
        return self._check_suspicion(now)

    def _find_hang(self, now: float, started_at: float) -> str:
        """Return how the process hangs; empty if it does not."""
        silent_s = now - self._heard_at
        if silent_s > (self._bounds.opening_s if self._ready_at is None else self._bounds.silent_s):
            return f"has hung for {silent_s:.1f} s"
        if self._ready_at is None and now - started_at > self._bounds.ready_s:
            return f"was not ready after {now - started_at:.0f} s"
        if self._asked_at is not None and now - self._asked_at > self._patience_s:
            return f"has not answered for {now - self._asked_at:.0f} s"
        return ""

    def _check_suspicion(self, now: float) -> list[Decision]:
        if self.state not in (HealthState.HEALTHY, HealthState.SUSPECT) or self._ready_at is None:
            return []
        silent_s = now - self._heard_at
        if silent_s > self._bounds.suspect_s:
            return self._become(HealthState.SUSPECT, f"no message for {silent_s:.1f} s")
        if self._asked_at is not None and now - self._asked_at > self._patience_s / 2:
            return self._become(HealthState.SUSPECT, f"no answer for {now - self._asked_at:.0f} s")
        return self._become(HealthState.HEALTHY, "responds again")

    def _become(self, state: HealthState, reason: str) -> list[Decision]:
        previous = self.state
        self.state = state
        return [Change(state, previous, reason)] if state is not previous else []

    def _forget_run(self) -> None:
        self._started_at = self._ready_at = self._asked_at = None


def wait_s(crashes: int, away_s: float) -> float:
    """Return the seconds to wait before the next start, after `crashes` in a row and `away_s` seconds of not being ready."""
    if crashes <= 1:
        return 0.0
    limit_s = min(max(MAX_WAIT_S, AWAY_WAIT_RATIO * away_s), MAX_AWAY_WAIT_S)
    return min(SECOND_WAIT_S * 2.0 ** min(crashes - 2, 60), limit_s)
