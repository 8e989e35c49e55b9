"""Which of the runs above chance are one sound, and at which other lags that sound fits about as well.

Rules of this file: no I/O, no clock, no random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mertd.memory.across.lag_runs import Runs, find_runs
from mertd.memory.across.lag_scores import Comparison, compared, profile, scores
from mertd.memory.across.track import Track

EXCLUDED = 7.0
"""Nats below chance at which a lag is excluded: an aligned sound scores so low once in a thousand times."""

REPEATS_APART = 2
"""Windows, end to end, from which on a stream repeats itself: what is nearer shares sound, or goes on."""


class Run(NamedTuple):
    """One of `Runs`."""

    lag: int  # number of the lag
    first: int
    end: int
    score: float


@dataclass(eq=False)
class Ridge:
    """Runs that are one sound. `also`: numbers of other lags that fit about as well."""

    best: Run
    course: list[Run] = field(default_factory=list)  # pieces in order of time, without overlap
    also: set[int] = field(default_factory=set)

    @property
    def first(self) -> int:
        """Number of its first block."""
        return self.course[0].first

    @property
    def end(self) -> int:
        """Number of the block behind its last one."""
        return self.course[-1].end

    def takes(self, run: Run) -> bool:
        """Add what a run hears before or behind this, at a lag that has drifted by a step. Return whether it is beside it."""
        if not any(_beside(run, own) for own in self.course):
            return False
        if run.first < self.first:
            self.course.insert(0, run._replace(end=min(run.end, self.first)))
        if run.end > self.end:
            self.course.append(run._replace(first=max(run.first, self.end)))
        return True

    def joins(self, other: Ridge, reach: int) -> bool:
        """Add another one that this meets, in time, and in lag within so many steps. Return whether it does."""
        if not any(_beside(own, its, reach) for own in self.course for its in other.course):
            return False
        self.best = max(self.best, other.best, key=lambda run: run.score)
        course, self.course = sorted(self.course + other.course, key=lambda run: run.first), []
        for run in course:
            first = max(run.first, self.course[-1].end) if self.course else run.first
            if first < run.end:
                self.course.append(run._replace(first=first))
        return True

    def overlaps(self, run: Run, moved: float = 0.0) -> bool:
        """Return whether most of a run, moved by some blocks, lies in the time of this."""
        common = min(run.end + moved, self.end) - max(run.first + moved, self.first)
        return 2 * common > run.end - run.first


def _beside(one: Run, other: Run, reach: int = 1) -> bool:
    """Return whether two runs touch, or overlap, at lags that are so many steps apart at most."""
    return abs(one.lag - other.lag) <= reach and one.first <= other.end + 1 and other.first <= one.end + 1


def ridges(runs: Runs, of: Comparison) -> list[Ridge]:
    """Return the best runs of each time on either stream, each with those that continue it."""
    found: list[Ridge] = []
    order = np.lexsort((runs.lag, runs.first, -runs.score))
    for values in zip(*(column[order].tolist() for column in (runs.lag, runs.first, runs.end, runs.score)), strict=True):
        run = Run(*values)
        if any(ridge.takes(run) for ridge in found) or any(ridge.overlaps(run) for ridge in found):
            continue
        # Blocks by which the second stream is further in this run than in the other.
        twice = [ridge for ridge in found if ridge.overlaps(run, (run.lag - ridge.best.lag) / of.rows_a_block)]
        if not twice:
            found.append(Ridge(run, [run]))
        elif profile(of.part(run.first, run.end))[run.lag] >= _off_by_half(of, twice[0]):
            twice[0].also.add(run.lag)
    separate: list[Ridge] = []
    for ridge in found:
        for met in [earlier for earlier in separate if ridge.joins(earlier, of.rows_a_block)]:
            separate.remove(met)
        separate.append(ridge)
    found = separate
    for ridge in found:
        _note_repeats(ridge, of)
    if len(found) > 1:
        _note_rivals(found, of)
    return found


def note_own_repeats(found: list[Ridge], of: Comparison, one: Track, other: Track) -> None:
    """Note the lags at which a find would be a repetition, if a stream repeats itself half as clearly for most of it."""
    for track, is_one in ((one, True), (other, False)):
        itself = compared(track, track, -of.first_lag * of.step_ns)
        if itself is None:
            continue
        own = find_runs(scores(itself, apart=REPEATS_APART * itself.rows_a_block), at_least=EXCLUDED)
        block_ns = itself.rows_a_block * itself.step_ns
        for ridge in found:
            best = ridge.best
            lag_ns = (best.lag + of.first_lag) * of.step_ns
            begin_ns = of.first_ns + best.first * of.rows_a_block * of.step_ns + (0 if is_one else lag_ns)
            first = (begin_ns - itself.first_ns) / block_ns
            end = first + (best.end - best.first) * of.rows_a_block * of.step_ns / block_ns
            common = np.minimum(own.end, end) - np.maximum(own.first, first)
            clear = (2 * common > end - first) & (2 * own.score > best.score)
            shifts_ns = (own.lag[clear] + itself.first_lag) * itself.step_ns
            ridge.also |= set((best.lag + np.rint(shifts_ns / of.step_ns).astype(np.int64)).tolist())


def _off_by_half(of: Comparison, ridge: Ridge) -> float:
    """Return the similarity of a sound at a lag that is off by half a step, as one may be that repeats between two windows."""
    means = profile(of.part(ridge.best.first, ridge.best.end))
    lag = ridge.best.lag
    beside = np.nan_to_num(means[[max(lag - 1, 0), min(lag + 1, of.lags - 1)]], nan=-1)
    return float((means[lag] + beside.max()) / 2)


def _note_repeats(ridge: Ridge, of: Comparison) -> None:
    """Note the lags at which the sound is as similar as its own lag is if windows lie between each other."""
    best = ridge.best
    means = np.nan_to_num(profile(of.part(best.first, best.end)), nan=-1)
    high = means >= _off_by_half(of, ridge)
    peak = np.ones(of.lags, bool)
    peak[1:] &= means[1:] >= means[:-1]
    peak[:-1] &= means[:-1] >= means[1:]
    apart = np.abs(np.arange(of.lags) - best.lag) > of.rows_a_block  # nearer ones share sound with it
    ridge.also |= set(np.flatnonzero(high & peak & apart).tolist())


def _note_rivals(found: list[Ridge], of: Comparison) -> None:
    """Note the lags of other ridges that nothing excludes: distances seldom change, and music repeats itself."""
    lags = np.array([ridge.best.lag for ridge in found])
    beside = np.clip(lags[:, None] + np.arange(-1, 2), 0, of.lags - 1)
    columns = np.concatenate([part[:, beside] for part in scores(of)])  # (blocks, ridges, lags beside)
    sums = np.concatenate([np.zeros((1, *columns.shape[1:])), np.cumsum(columns, axis=0)])
    for ridge in found:
        best = ridge.best
        fits = (sums[best.end] - sums[best.first]).max(axis=1) > -EXCLUDED
        apart = np.abs(lags - best.lag) > of.rows_a_block
        ridge.also |= set(lags[fits & apart].tolist())
