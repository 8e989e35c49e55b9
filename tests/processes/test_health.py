"""The state machine under virtual time: no process, no clock, every moment chosen by the test."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mertd.processes.health import (
    AWAY_WAIT_RATIO,
    CRASH_LIMIT,
    LATE_TICK_S,
    MAX_AWAY_WAIT_S,
    MAX_WAIT_S,
    Bounds,
    Change,
    Decision,
    Health,
    Kill,
    Start,
    wait_s,
)
from mertd.vocabulary import HealthState

BOUNDS = Bounds(opening_s=20, suspect_s=1, silent_s=2, ready_s=60, proven_s=5)
TICK = 0.25


@dataclass
class Run:
    """A `Health` and its time. Every tick, the process is heard if it `beats`; what is decided is kept."""

    now: float = 1_000.0
    beats: bool = True
    heard: float = 0.0
    decisions: list[tuple[float, Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.health = Health(BOUNDS, self.now)
        self.health.started(self.now)
        self.heard = self.now

    def note(self, decisions: list[Decision]) -> list[Decision]:
        self.decisions += [(self.now, decision) for decision in decisions]
        return decisions

    def go(self, seconds: float, until: type[Decision] | None = None) -> float:
        """Let time pass, or until something of a kind is decided. Returns how long it took."""
        began = self.now
        while self.now < began + seconds:
            self.now += TICK
            if self.beats:
                self.heard = self.now
            decided = self.note(self.health.tick(self.now, self.heard))
            if until is not None and any(isinstance(decision, until) for decision in decided):
                break
        return self.now - began

    def well(self) -> Run:
        """Ready and at work."""
        self.note(self.health.ready(self.now))
        self.note(self.health.worked(self.now))
        return self

    def die_and_start(self) -> float:
        """Death, the wait that was decided, and the next start. Returns the wait."""
        (start,) = [o for o in self.note(self.health.died(self.now, "died")) if isinstance(o, Start)]
        self.now += start.wait_s
        self.health.started(self.now)
        self.heard = self.now
        return start.wait_s

    @property
    def story(self) -> list[str]:
        return [str(decision.state) for _, decision in self.decisions if isinstance(decision, Change)]


def test_a_quiet_life() -> None:
    run = Run()
    run.go(10)
    run.well().go(3_600)
    assert run.story == ["healthy"]
    assert not [o for _, o in run.decisions if isinstance(o, Kill)]


def test_silence_is_suspect_and_then_deadly() -> None:
    run = Run().well()
    run.go(10)
    run.beats, fell_silent = False, run.now
    assert run.go(60, Change) == pytest.approx(BOUNDS.suspect_s, abs=2 * TICK)
    run.go(60, Kill)
    assert run.now - fell_silent == pytest.approx(BOUNDS.silent_s, abs=2 * TICK)
    assert run.story == ["healthy", "suspect"]
    killed = len(run.decisions)
    run.go(60)
    assert len(run.decisions) == killed, "killed once: the system does the rest"


def test_the_next_one_is_judged_afresh() -> None:
    run = Run(beats=False)
    for _ in range(3):
        assert run.go(100, Kill) == pytest.approx(BOUNDS.opening_s, abs=2 * TICK)
        run.die_and_start()


def test_who_is_heard_again_in_time_is_healthy() -> None:
    run = Run().well()
    run.beats = False
    run.go(1.5)
    run.beats = True
    run.go(1)
    assert run.story == ["healthy", "suspect", "healthy"]


def test_who_starts_has_more_time() -> None:
    run = Run(beats=False)
    assert run.go(100, Kill) == pytest.approx(BOUNDS.opening_s, abs=2 * TICK)
    beating = Run()
    assert beating.go(100, Kill) == pytest.approx(BOUNDS.ready_s, abs=2 * TICK)


def test_work_without_an_answer() -> None:
    run = Run().well()
    run.health.asked(run.now, 40)
    assert run.go(100, Change) == pytest.approx(20, abs=2 * TICK)
    assert run.go(100, Kill) == pytest.approx(20, abs=2 * TICK)
    answered = Run().well()
    for _ in range(20):
        answered.health.asked(answered.now, 40)
        answered.go(15)
        answered.note(answered.health.worked(answered.now))
    answered.go(100)
    assert answered.story == ["healthy"]


@pytest.mark.parametrize("stopped_s", [LATE_TICK_S + 0.1, 10, 8 * 3_600])
def test_after_a_pause_of_the_supervisor_itself_nobody_is_judged_by_it(stopped_s: float) -> None:
    """The machine slept, or only the supervisor was stopped: the children have not been heard, and are not to blame."""
    run = Run().well()
    run.health.asked(run.now, 10)
    run.go(3)
    run.now += stopped_s
    run.beats = False
    assert run.go(100, Kill) == pytest.approx(BOUNDS.silent_s, abs=2 * TICK), "a fresh period of grace, no longer"
    waiting = Run().well()
    waiting.health.asked(waiting.now, 10)
    waiting.now += stopped_s
    assert waiting.go(100, Kill) == pytest.approx(10, abs=LATE_TICK_S), "and the pause was no time to answer in"


def test_the_first_restart_is_at_once_and_waits_grow() -> None:
    run = Run().well()
    run.go(BOUNDS.proven_s + 1)
    waits = [run.die_and_start() for _ in range(8)]
    assert waits == [0, 0.5, 1, 2, 3, 3, 3, 3]
    assert run.story == ["healthy", "recovering", "failed"], "failing is announced once"
    run.note(run.health.ready(run.now))
    assert run.health.state is HealthState.FAILED, "who has failed so often must first do some work"
    run.note(run.health.worked(run.now))
    assert run.health.state is HealthState.HEALTHY
    run.go(BOUNDS.proven_s + 1)
    assert run.die_and_start() == 0, "what has lasted is forgiven"


def test_who_works_but_never_lasts_fails_too() -> None:
    run = Run()
    for _ in range(CRASH_LIMIT):
        run.well().go(1)
        run.die_and_start()
    assert run.health.state is HealthState.FAILED


def test_ready_without_work_is_no_success() -> None:
    run = Run()
    for _ in range(CRASH_LIMIT):
        run.note(run.health.ready(run.now))
        run.go(100)
        run.die_and_start()
    assert run.health.state is HealthState.FAILED


def test_a_source_that_ends_in_order_leaves_no_stain() -> None:
    run = Run().well()
    for _ in range(10):
        assert run.note(run.health.renewed(run.now, "next")) == [
            Change(HealthState.RECOVERING, HealthState.HEALTHY, "next"),
            Start(0.0),
        ]
        run.health.started(run.now)
        run.well()
    assert run.health.crashes == 0


def test_the_longer_away_the_longer_the_wait() -> None:
    """A device that was unplugged for a night may take half a minute to be found, one that was away for a minute may not."""
    assert wait_s(20, 0) == wait_s(20, 60) == MAX_WAIT_S
    assert wait_s(20, 300) == 15
    assert wait_s(20, 1e6) == MAX_AWAY_WAIT_S
    assert wait_s(10**9, 1e9) == MAX_AWAY_WAIT_S


@given(st.integers(1, 10**6), st.floats(0, 1e9))
def test_waits_never_exceed_the_limit(crashes: int, away_s: float) -> None:
    assert 0 <= wait_s(crashes, away_s) <= max(MAX_WAIT_S, min(AWAY_WAIT_RATIO * away_s, MAX_AWAY_WAIT_S))
    assert wait_s(crashes, away_s) <= wait_s(crashes + 1, away_s)


class Lives(RuleBasedStateMachine):
    """Any sequence of facts, with the promises of health.py held against it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.ticked = 0.0
        self.health = Health(BOUNDS, 0.0)
        self.running = self.ready = self.killed = False
        self.heard = self.good = 0.0  # `good`: since when silence may count
        self.deadline: float | None = None
        self.changes: list[Change] = []
        self.begin()

    def begin(self) -> None:
        self.health.started(self.now)
        self.running, self.ready, self.killed, self.deadline = True, False, False, None
        self.heard = self.good = self.began = self.now

    def take(self, decisions: list[Decision]) -> None:
        self.changes += [o for o in decisions if isinstance(o, Change)]
        for decision in decisions:
            if isinstance(decision, Start):
                assert 0 <= decision.wait_s <= MAX_AWAY_WAIT_S
                self.now += decision.wait_s
                self.begin()

    @rule(seconds=st.floats(0.01, 30) | st.just(TICK), beats=st.booleans())
    def time_passes(self, seconds: float, beats: bool) -> None:
        self.now += seconds
        if beats and self.running and not self.killed:
            self.heard = self.now
        late = self.now - self.ticked > LATE_TICK_S
        if late:
            self.good = self.now
            self.began += self.now - self.ticked
            self.deadline = None if self.deadline is None else self.deadline + self.now - self.ticked
        self.ticked = self.now
        decisions = self.health.tick(self.now, self.heard)
        kills = [o for o in decisions if isinstance(o, Kill)]
        silent = self.now - max(self.heard, self.good)
        bound = BOUNDS.silent_s if self.ready else BOUNDS.opening_s
        overdue = self.deadline is not None and self.now > self.deadline
        dawdles = not self.ready and self.now - self.began > BOUNDS.ready_s
        if self.running and not self.killed:
            assert bool(kills) == (silent > bound or overdue or dawdles), (silent, overdue, dawdles)
            self.killed = bool(kills)
        else:
            assert not decisions, "nothing is decided about who is gone"
        self.take(decisions)

    @precondition(lambda self: self.running and not self.ready and not self.killed)
    @rule()
    def becomes_ready(self) -> None:
        self.ready, self.heard, self.good = True, self.now, self.now
        self.take(self.health.ready(self.now))

    @precondition(lambda self: self.running and self.ready and not self.killed and self.deadline is None)
    @rule(patience=st.floats(1, 100))
    def is_asked(self, patience: float) -> None:
        self.deadline = self.now + patience
        self.health.asked(self.now, patience)

    @precondition(lambda self: self.running and self.ready and not self.killed)
    @rule()
    def works(self) -> None:
        self.deadline, self.heard = None, self.now
        self.take(self.health.worked(self.now))
        assert self.health.state is HealthState.HEALTHY

    @precondition(lambda self: self.running)
    @rule()
    def dies(self) -> None:
        self.running = self.ready = False
        nth = self.health.nth_crash(self.now)
        self.take(self.health.died(self.now, "died"))
        assert self.running, "another one is always on its way"
        assert nth == self.health.crashes >= 1
        assert nth < CRASH_LIMIT or self.health.state is HealthState.FAILED

    @precondition(lambda self: self.running)
    @rule()
    def ends_in_order(self) -> None:
        self.take(self.health.renewed(self.now, "next"))
        assert self.health.crashes == 0

    @invariant()
    def every_change_is_one_and_reported_once(self) -> None:
        assert all(change.state is not change.previous for change in self.changes)
        assert all(one.state is next_one.previous for one, next_one in pairwise(self.changes))
        assert self.health.state is (self.changes[-1].state if self.changes else HealthState.RECOVERING)

    def teardown(self) -> None:
        """From wherever it has got to, a new process that works leads back to health."""
        if self.killed or not self.running:
            self.take(self.health.died(self.now, "died"))
        if not self.ready:
            self.becomes_ready()
        self.works()
        assert self.health.state is HealthState.HEALTHY


TestLives = Lives.TestCase
