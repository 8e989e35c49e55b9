"""One trial: victim, witness and attack, a revocation in its middle, SIGTERM at a random moment, and a row of figures."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

from attacks.target import INTRUDER, Attack, Target
from attacks.victim import STOP_PATIENCE_S, Victim
from attacks.witness import Figures, Spy, Witness

MAX_GROWTH_MB = 50.0
"""By how much the supervisor's resident memory may grow."""

MAX_ANSWER_S = 0.5
"""Longest time in which `status` of another client is answered."""

MAX_PAUSE_S = 2.0
"""Longest time between two beats of the status."""

MAX_END_S = 5.0
"""Longest time from SIGTERM to the exit."""

MAX_CUT_OFF_S = 2.0
"""Longest time for which a revoked key is still served."""

READY_S = 30.0
"""Seconds that the processes of attackers have to start."""

REVOKED_AFTER = 0.4
"""Share of the attack after which the key is revoked."""

AFTER_REVOCATION_S = 3.0
"""Shortest time from the revocation to SIGTERM."""


@dataclass
class Row:
    """The figures of one trial; None where there is nothing to measure. `wrong`: what else must not be, in sentences."""

    name: str
    lives: bool = True
    growth_mb: float | None = None
    answer_s: float | None = None
    pause_s: float | None = None
    end_s: float | None = None
    cut_off_s: float | None = None
    max_growth_mb: float = MAX_GROWTH_MB
    stalled_s: float = 0.0  # in which the machine did not run the witness
    holes: int = 0
    wrong: list[str] = field(default_factory=list)

    def misses(self, tolerance: float = 1.0) -> list[str]:
        """Return the bars that were missed, in sentences; `tolerance`: by how much they are widened."""
        bars = [
            ("memory grew by {:.0f} MB", self.growth_mb, self.max_growth_mb),
            ("`status` was answered after {:.2f} s", self.answer_s, MAX_ANSWER_S),
            ("the beat paused for {:.2f} s", self.pause_s, MAX_PAUSE_S),
            ("SIGTERM took {:.2f} s", self.end_s, MAX_END_S),
            ("the revoked key was served for {:.2f} s", self.cut_off_s, MAX_CUT_OFF_S),
        ]
        missed = [text.format(value) for text, value, bar in bars if value is not None and value > bar * tolerance]
        return [*([] if self.lives else ["it died"]), *missed, *self.wrong]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "misses": self.misses()}


def attack_when_told(run: Callable[[Target], None], target: Target, told: Connection, seconds: float) -> None:
    """Entry of an attacker's process. Its time starts when it is told to attack."""
    told.send("ready")
    told.recv()
    run(Target(target.publish_port, target.control_port, target.key_folder, time.monotonic() + seconds))


class Attackers:
    """The processes of an attack, as a context manager; they start at once and attack from `go` on."""

    def __init__(self, attack: Attack, target: Target, seconds: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._processes = []
        self._tell = []
        for run in attack.runs:
            ours, theirs = spawn.Pipe()
            self._tell.append(ours)
            self._processes.append(spawn.Process(target=attack_when_told, args=(run, target, theirs, seconds)))

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        for tell in self._tell:
            assert tell.poll(READY_S), "an attacker did not start"
            tell.recv()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def go(self) -> None:
        for tell in self._tell:
            tell.send("attack")

    def failed(self) -> bool:
        """Whether an attacker's process ended by an error: then it attacked less than it should have."""
        return any(process.exitcode not in (None, 0) for process in self._processes)


def judge(row: Row, figures: Figures, witness: Witness) -> None:
    """Enter what the witness has seen."""
    row.growth_mb = figures.memory_peak_mb - figures.memory_before_mb
    row.answer_s = max(figures.answers_s, default=None)
    row.pause_s = max(later - earlier for earlier, later in zip(figures.beats, figures.beats[1:], strict=False))
    row.stalled_s = witness.stalled(figures)
    row.holes = figures.holes
    row.wrong += [f"the witness failed: {error}" for error in witness.errors]
    if figures.failures:
        row.wrong.append(f"{len(figures.failures)} `status` requests failed: {figures.failures[0]}")
    if not figures.embeddings:
        row.wrong.append("the witness received no embeddings")
    if witness.lost:
        row.wrong.append(f"a client of the library lost {witness.lost} messages")


def wait(victim: Victim, until: float) -> None:
    while victim.lives and time.monotonic() < until:
        time.sleep(0.02)


def try_attack(attack: Attack, seconds: float, chance: random.Random) -> Row:
    """Attack a new victim for `seconds`, and return the figures."""
    row = Row(attack.name)
    victim = Victim(attack)
    try:
        with victim, ExitStack() as stack:
            target = victim.target(seconds)
            attackers = stack.enter_context(Attackers(attack, target, seconds + STOP_PATIENCE_S))
            honest = stack.enter_context(ExitStack())
            witness = honest.enter_context(Witness(victim))
            spy = None
            if victim.ring is not None:
                spy = honest.enter_context(Spy(target.publish, target.control, victim.ring.client(INTRUDER)))
            witness.begin()
            began = time.monotonic()
            attackers.go()
            revoked = 0.0
            if victim.ring is not None:
                wait(victim, began + REVOKED_AFTER * seconds)
                victim.ring.revoke(INTRUDER)
                revoked = time.monotonic()
                seconds = max(seconds, revoked - began + AFTER_REVOCATION_S)
            wait(victim, began + seconds * chance.uniform(0.8, 1.0) if not revoked else began + seconds)
            figures = witness.figures()
            judge(row, figures, witness)
            row.lives = victim.lives
            if attackers.failed():
                row.wrong.append("an attacker ended too early")
            honest.close()
            if row.lives:
                row.end_s = victim.terminate()
            if spy is not None:
                row.cut_off_s = max(0.0, spy.served_at - revoked)
    except AssertionError as error:
        row.lives = row.lives and victim.process.returncode == 0
        row.wrong.append(" ".join(str(error).split())[:500])
    return row
