"""What the indexes propose: the stretches of windows nearest to a vector, over all of them.

Most indexes hold none of the nearest, so each is asked for few at first, and again for more only if all it gave were needed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.vector_segment import Floats, Ints, SpanFilter, VectorIndex

THREADS = 2
"""Most threads that search indexes at once."""

MIN_ASKED = 24
"""Fewest candidates that an index is asked for at first."""

EVEN_SHARES = 4
"""How many times its even share of the candidates an index is asked for at first."""

SPARE = 2
"""Candidates that are looked up, for each that is needed: a span that is left out takes some of them."""

Candidates = tuple[Ints, Floats]
"""Rows of a table, nearest first, and their approximate similarities."""


@dataclass(frozen=True)
class Stretches:
    """Windows that are near a vector, or stretches of one sound; arrays of one length."""

    index: Ints  # number of the index
    first: Ints  # rows in its table
    last: Ints
    scores: Floats  # approximate similarity

    def of(self, number: int) -> tuple[Ints, Ints]:
        """Return the first and last rows of those in one index."""
        own = self.index == number
        return self.first[own], self.last[own]


def nearest_stretches(
    query: NDArray[np.floating], indexes: Sequence[VectorIndex], limit: int, allowed: SpanFilter
) -> tuple[Stretches, bool]:
    """Return the `limit` nearest stretches of which an end is allowed, and whether there are no others."""
    found = _candidates(query, indexes, limit)
    complete = all(len(rows) >= len(index) for (rows, _), index in zip(found, indexes, strict=True))
    if not allowed.selects:
        complete &= sum(len(rows) for rows, _ in found) <= SPARE * limit
        least = _least((scores for _, scores in found), SPARE * limit)
        found = [(rows[scores >= least], scores[scores >= least]) for rows, scores in found]
    parts: list[tuple[Ints, Ints, Ints, Floats]] = []
    for number, ((rows, scores), index) in enumerate(zip(found, indexes, strict=True)):
        if not len(rows):
            continue
        first, last, place = index.runs_of(rows)
        kept = allowed(index.table.take(first)) | allowed(index.table.take(last))
        parts.append((np.full(int(kept.sum()), number, np.int64), first[kept], last[kept], scores[place][kept]))
    if not parts:
        none = np.zeros(0, np.int64)
        return Stretches(none, none, none, np.zeros(0, np.float32)), complete
    whole = Stretches(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if len(whole.scores) <= limit:
        return whole, complete
    near = whole.scores >= np.partition(whole.scores, -limit)[-limit]
    return Stretches(whole.index[near], whole.first[near], whole.last[near], whole.scores[near]), False


def _candidates(query: NDArray[np.floating], indexes: Sequence[VectorIndex], limit: int) -> list[Candidates]:
    """Return the candidates of every index: all of them that are among the `limit` nearest of all."""
    asked = min(limit, max(MIN_ASKED, EVEN_SHARES * limit // max(1, len(indexes))))
    seen: dict[Hashable, NDArray[Any]] = {}
    for index in indexes:
        if index.view not in seen:
            seen[index.view] = index.seen(query)
    found = _shared(lambda index: index.candidates(seen[index.view], asked), indexes)
    least = _least((scores for _, scores in found), limit)
    again = [
        number
        for number, (rows, scores) in enumerate(found)
        if asked < limit and asked <= len(rows) < len(indexes[number]) and scores[-1] >= least
    ]
    more = _shared(lambda index: index.candidates(seen[index.view], limit), [indexes[number] for number in again])
    for number, candidates in zip(again, more, strict=True):
        found[number] = candidates
    return found


def _shared(ask: Callable[[VectorIndex], Candidates], indexes: Sequence[VectorIndex]) -> list[Candidates]:
    """Return the answers of all. USearch releases the interpreter while it searches, so threads share the work."""
    workers = min(THREADS, len(indexes))
    if workers < 2:
        return [ask(index) for index in indexes]
    shares = [indexes[worker::workers] for worker in range(workers)]
    answers: list[Candidates] = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(indexes)
    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(lambda share=share: [ask(index) for index in share]) for share in shares[1:]]  # type: ignore[misc]
        answers[0::workers] = [ask(index) for index in shares[0]]
        for worker, other in enumerate(others, 1):
            answers[worker::workers] = other.result()
    return answers


def _least(scores: Iterable[Floats], limit: int) -> float:
    """Return the score from which there are at most about `limit`."""
    everything = np.concatenate([np.zeros(0, np.float32), *scores])
    return float(np.partition(everything, -limit)[-limit]) if len(everything) > limit else float("-inf")
