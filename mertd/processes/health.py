"""Whether a child process is well, when it must be killed, and how long to wait before the next one: a state machine.

Rules of this file: no process, no clock, no I/O. Facts come in with their monotonic time in seconds; out come changes of
state, each reported once, and what is to be done. What it promises, and its tests hold it to: who beats, answers and becomes
ready is never killed; who is silent always is, in time; a wait never exceeds its limit; from every state a new process leads
back to `healthy`.

healthy     ready, and heard lately
suspect     ready, but silent or without an answer for longer than it should be
recovering  none is ready: one is starting, or about to
failed      has died `CRASHES` times in a row without lasting, or cannot be started again; unless that is final, it is tried on
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CRASHES = 3
"""Deaths in a row after which starting the same again is no hope but a habit."""

FIRST_WAIT_S, SHORT_WAIT_S, LONGEST_WAIT_S, SHARE = 0.5, 3.0, 30.0, 0.05
"""Before the second restart, and doubling: up to 3 s, or a twentieth of how long it has been away, and never above 30 s."""

LATE_S = 0.75
"""A tick that comes so much after the last one was late: nobody was watching, so the children get a fresh start."""


class State(StrEnum):
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    RECOVERING = "recovering"
    FAILED = "failed"


@dataclass(frozen=True)
class Bounds:
    """Seconds.

    opening_s  without a word until it is ready, after which it is taken to hang
    suspect_s  without a word, once it is ready, after which that is reported
    silent_s   the same, after which it is taken to hang
    ready_s    from its start until it must be ready, however often it is heard
    proven_s   of being ready, after which a process that has also done some work counts as having lasted
    """

    opening_s: float
    suspect_s: float
    silent_s: float
    ready_s: float
    proven_s: float


@dataclass(frozen=True)
class Change:
    """The state has changed."""

    state: State
    previous: State
    reason: str


@dataclass(frozen=True)
class Kill:
    """The process hangs: kill it; `died` follows."""

    reason: str


@dataclass(frozen=True)
class Start:
    """Start the next process after so many seconds."""

    wait_s: float


Outcome = Change | Kill | Start


class Health:
    """One supervised process over all its runs. `failures`: deaths in a row of runs that did not last."""

    def __init__(self, bounds: Bounds, now: float) -> None:
        self.state, self.failures = State.RECOVERING, 0
        self._bounds = bounds
        self._ticked = self._well = now  # `_well`: when it was last ready
        self._started: float | None = None
        self._ready: float | None = None
        self._heard = now  # as far as silence is concerned
        self._asked: float | None = None
        self._patience = 0.0
        self._worked = self._condemned = False

    def started(self, now: float) -> None:
        """A process has been started."""
        self._started, self._heard = now, now
        self._ready, self._asked, self._worked, self._condemned = None, None, False, False

    def ready(self, now: float) -> list[Outcome]:
        """It has opened its source, or loaded its model. One that has failed before must first do some work."""
        self._ready = self._heard = self._well = now
        return self._become(State.HEALTHY, "ready") if self.state is not State.FAILED else []

    def asked(self, now: float, patience_s: float) -> None:
        """It has been given work, which is to be answered within `patience_s`."""
        self._asked, self._patience = now, patience_s

    def worked(self, now: float) -> list[Outcome]:
        """It has answered, or brought audio."""
        self._heard, self._asked, self._worked = now, None, True
        return self._become(State.HEALTHY, "works again") if self.state is State.FAILED else self._seen_well(now)

    def nth(self, now: float) -> int:
        """Which death in a row it would be if the process died now: the first again, if this one has lasted."""
        lasted = self._ready is not None and self._worked and now - self._ready >= self._bounds.proven_s
        return 1 if lasted else self.failures + 1

    def died(self, now: float, reason: str) -> list[Outcome]:
        """The process is gone, unasked, and is to be replaced: at once the first time, then after growing waits."""
        self.failures = self.nth(now)
        if self._ready is not None:
            self._well = now
        self._started = self._ready = self._asked = None
        failed = self.state is State.FAILED or self.failures >= CRASHES
        changes = self._become(State.FAILED if failed else State.RECOVERING, reason)
        return [*changes, Start(wait(self.failures, now - self._well))]

    def renewed(self, now: float, reason: str) -> list[Outcome]:
        """The process ended in order, or something else takes its place: the next one starts at once, with a clean record."""
        self._started = self._ready = self._asked = None
        self.failures, self._well = 0, now
        return [*self._become(State.RECOVERING, reason), Start(0.0)]

    def rested(self, now: float) -> None:
        """The process was ended because nobody wants it for now: nothing is wrong with it."""
        self._started = self._ready = self._asked = None
        self.failures, self._well = 0, now

    def gave_up(self, reason: str) -> list[Outcome]:
        """It is gone, and no other one can take its place."""
        self._started = self._ready = self._asked = None
        return self._become(State.FAILED, reason)

    def tick(self, now: float, heard: float) -> list[Outcome]:
        """Time has passed; the process was last heard at `heard`. To be called several times a second."""
        gap, self._ticked = now - self._ticked, now
        if gap > LATE_S:  # the supervisor was stopped, or the machine slept: the children may not have run either
            self._heard = now
            self._asked = None if self._asked is None else self._asked + gap
            self._started = None if self._started is None else self._started + gap
        if self._started is None or self._condemned:
            return []
        self._heard = max(self._heard, heard)
        if self._ready is not None:
            self._well = now
        if hangs := self._hangs(now):
            self._condemned = True
            return [Kill(hangs)]
        return self._seen_well(now)

    def _hangs(self, now: float) -> str:
        """In which way the process hangs; empty if it does not."""
        assert self._started is not None
        silent = now - self._heard
        if silent > (self._bounds.opening_s if self._ready is None else self._bounds.silent_s):
            return f"has hung for {silent:.1f} s"
        if self._ready is None and now - self._started > self._bounds.ready_s:
            return f"was not ready after {now - self._started:.0f} s"
        if self._asked is not None and now - self._asked > self._patience:
            return f"has not answered for {now - self._asked:.0f} s"
        return ""

    def _seen_well(self, now: float) -> list[Outcome]:
        if self.state not in (State.HEALTHY, State.SUSPECT) or self._ready is None:
            return []
        silent = now - self._heard
        if silent > self._bounds.suspect_s:
            return self._become(State.SUSPECT, f"not heard for {silent:.1f} s")
        if self._asked is not None and now - self._asked > self._patience / 2:
            return self._become(State.SUSPECT, f"no answer for {now - self._asked:.0f} s")
        return self._become(State.HEALTHY, "heard again")

    def _become(self, state: State, reason: str) -> list[Outcome]:
        previous, self.state = self.state, state
        return [Change(state, previous, reason)] if state is not previous else []


def wait(failures: int, away_s: float) -> float:
    """Seconds before the next start after so many deaths in a row, `away_s` seconds since the last one was ready."""
    if failures <= 1:
        return 0.0
    most = min(max(SHORT_WAIT_S, SHARE * away_s), LONGEST_WAIT_S)
    return min(FIRST_WAIT_S * 2.0 ** min(failures - 2, 60), most)
