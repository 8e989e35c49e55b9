"""The same sound on two streams: from when to when, how much later on the second, and whether that is beyond doubt.

Rules of this file: no I/O, no clock, no random numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mertd.memory.across.lag_estimate import estimate
from mertd.memory.across.lag_runs import Chance, Runs, find_runs
from mertd.memory.across.lag_scores import ALIGNED_MEAN, Comparison, scores
from mertd.memory.across.ridges import Ridge, note_own_repeats, ridges
from mertd.memory.across.track import Track

FALSE_ALARMS = 1e-4
"""False alarms that are accepted, in all comparisons of one call together."""

MARGIN = -math.log(FALSE_ALARMS)
"""Least score of a run that is looked at, in nats."""

BLOCKS_BY_CHANCE = 600
"""Blocks from which chance is estimated at least, if need be of the same streams at several places."""

MAX_BACKWARDS = 12
"""Places at most: others repeat what these have."""


@dataclass(frozen=True)
class SharedSound:
    """What the second of two streams hears as the first does, `lag_ns` later. Times are Unix nanoseconds.

    A negative lag: the second one hears it first. If it lies within `bound_ns` of 0, nobody can tell which was first.
    """

    start_ns: int  # on the first stream, to within a window
    end_ns: int
    lag_ns: int  # in the middle of that time
    bound_ns: int  # the lag lies within this of `lag_ns`
    drift_ppm: float | None  # how much the lag grows, in microseconds a second; None: no drift can be told
    also_ns: tuple[int, ...]  # other lags that fit about as well, in whole steps: the sound repeats itself
    by_chance: float  # such finds that are expected in unrelated sound, in this call
    similarity: float  # mean similarity of the windows that belong together, seen as what differs from the sound around them

    @property
    def certain(self) -> bool:
        """Whether no other lag fits about as well."""
        return not self.also_ns


def can_tell(of: Comparison, comparisons: int = 1) -> bool:
    """Return whether two streams have so much time in common that the same sound could be told from chance."""
    best = math.log(of.lags) * (1 - 1 / ALIGNED_MEAN) - math.log(ALIGNED_MEAN)
    return of.blocks * best > MARGIN + math.log(of.lags * comparisons)


def _by_chance(of: Comparison) -> Chance:
    """Return how large runs become by chance, from the streams with one of them backwards: several times if they are short."""
    count = min(MAX_BACKWARDS, -(-BLOCKS_BY_CHANCE // of.blocks))
    runs = Runs.joined([find_runs(scores(of.backwards(number / count))) for number in range(count)])
    return Chance.fit(runs, count, of.rows_a_block)


def shared_sounds(one: Track, other: Track, of: Comparison, within_ns: int, comparisons: int = 1) -> list[SharedSound]:
    """Return what two streams have in common at lags that may lie within `within_ns`, in order of time.

    `of`: of both streams. `comparisons`: how many such calls belong together, so that false alarms do not grow with them.
    """
    by_chance = _by_chance(of)
    found = find_runs(scores(of), at_least=MARGIN)
    rarity = np.array([by_chance.expected(score) * comparisons for score in found.score.tolist()])
    found_ridges = ridges(found.take(rarity < FALSE_ALARMS), of)
    if found_ridges:
        note_own_repeats(found_ridges, of, one, other)
    sounds = [_sound(ridge, one, other, of, by_chance.expected(ridge.best.score) * comparisons) for ridge in found_ridges]
    near = [sound for sound in sounds if sound is not None and abs(sound.lag_ns) - sound.bound_ns <= within_ns]
    return sorted(near, key=lambda sound: sound.start_ns)


def _sound(ridge: Ridge, one: Track, other: Track, of: Comparison, by_chance: float) -> SharedSound | None:
    """Return what a ridge tells; None if its lag cannot be estimated."""
    block_ns = of.rows_a_block * of.step_ns
    pieces = [
        (of.first_ns + run.first * block_ns, of.first_ns + run.end * block_ns, (run.lag + of.first_lag) * of.step_ns)
        for run in ridge.course
    ]
    lag = estimate(one, other, np.array(pieces, np.int64), of.step_ns)
    if lag is None:
        return None
    half = one.window_ns // 2
    return SharedSound(
        start_ns=of.first_ns + ridge.first * block_ns - half,
        end_ns=of.first_ns + ridge.end * block_ns - of.step_ns + half,
        lag_ns=lag.lag_ns,
        bound_ns=lag.bound_ns,
        drift_ppm=lag.drift_ppm,
        also_ns=tuple((number + of.first_lag) * of.step_ns for number in sorted(ridge.also)),
        by_chance=by_chance,
        similarity=lag.similarity,
    )
