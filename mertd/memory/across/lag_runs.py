"""Runs of blocks whose scores at one lag add up to more than chance: local alignment without gaps, as for sequences of letters.

The scores are logarithms of likelihood ratios, so the largest sum along a lag by chance is exponentially distributed (Karlin
and Altschul 1990). Neighbouring blocks and lags are not independent, and pieces are alike; so the rate of that distribution
comes from the same two streams, one of them backwards.

Rules of this file: no I/O, no clock, no random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.vector_segment import Ints

TAIL_SHARE = 0.02
"""Share of the runs by chance, the largest ones, from which the rate is estimated."""

MIN_TAIL = 10
"""Fewest of them that share no sound, or nearly none."""

END_DROP = 12.0
"""How far a sum must fall below its largest value for a run to have ended, in nats: chance does this once in 160,000 times."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of blocks; arrays of one length. `end`: number of the block behind the last one."""

    lag: Ints  # number of the lag
    first: Ints
    end: Ints
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.lag)

    @staticmethod
    def joined(parts: Sequence[Runs]) -> Runs:
        """Return the runs of several comparisons."""
        return Runs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Runs.__dataclass_fields__))

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Runs:
        """Return some of them."""
        return Runs(self.lag[rows], self.first[rows], self.end[rows], self.score[rows])


@dataclass(frozen=True)
class Chance:
    """How many runs of a score or more are expected by chance: `count` of at least `from_score`, fewer by `rate` a nat."""

    from_score: float
    count: float
    rate: float

    def expected(self, score: float) -> float:
        """Return how many runs of at least this score are expected in such a comparison."""
        return self.count * math.exp(max(-self.rate * (score - self.from_score), -700.0))

    @staticmethod
    def fit(by_chance: Runs, comparisons: int = 1, alike: int = 1) -> Chance:
        """Return the distribution behind runs of so many comparisons that are known to be chance.

        It has an exponential tail, which is never taken as steeper than theory says. `alike`: neighbouring lags that share
        sound.
        """
        found = np.sort(by_chance.score)[::-1]
        count = min(len(found), max(MIN_TAIL * alike, round(TAIL_SHARE * len(found))))
        if not count:
            return Chance(0.0, 1.0, 1.0)
        tail = found[:count]
        excess = float(tail.mean() - tail[-1])
        uncertain = 1 + math.sqrt(alike / count)  # the estimate of the mean may be too small by its standard error
        return Chance(float(tail[-1]), count / comparisons, 1 / max(1.0, excess * uncertain))


def find_runs(scores: Iterable[NDArray[np.float64]], at_least: float = 0.0) -> Runs:
    """Return all runs that cannot be made better by another beginning or end, of at least a score."""
    found: list[tuple[Ints, Ints, Ints, NDArray[np.float64]]] = []
    state: _Open | None = None
    number = 0
    for part in scores:
        for row in part:
            state = state or _Open(len(row))
            over = state.add(row, number)
            if over is not None:
                found.append(over)
            number += 1
    if state is not None:
        found.append(state.close(np.ones(len(state.sum), bool)))
    none = np.zeros(0, np.int64)
    lag, first, end = (np.concatenate([none, *(one[column] for one in found)]) for column in range(3))
    score = np.concatenate([np.zeros(0), *(one[3] for one in found)])
    return Runs(lag, first, end, score).take(score > at_least)


class _Open:
    """The run at each lag that is not yet over."""

    def __init__(self, lags: int) -> None:
        self.sum = np.zeros(lags)
        self.best = np.zeros(lags)
        self.first = np.zeros(lags, np.int64)
        self.end = np.zeros(lags, np.int64)

    def add(self, row: NDArray[np.float64], number: int) -> tuple[Ints, Ints, Ints, NDArray[np.float64]] | None:
        """Add the scores of a block. Return the runs that are over: lags, first blocks, ends and scores."""
        begins = self.sum <= 0
        self.first[begins] = number
        self.sum = np.where(begins, 0, self.sum) + row
        better = self.sum > self.best
        self.best[better] = self.sum[better]
        self.end[better] = number + 1
        over = (self.best > 0) & ((self.sum <= 0) | (self.sum < self.best - END_DROP))
        return self.close(over) if over.any() else None

    def close(self, over: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints, NDArray[np.float64]]:
        """Take out the runs at some lags."""
        lags = np.flatnonzero(over & (self.best > 0))
        found = (lags, self.first[lags].copy(), self.end[lags].copy(), self.best[lags].copy())
        self.sum[lags] = 0
        self.best[lags] = 0
        return found
