"""Figures of a space of vectors: retrieval, anisotropy, and how much of it is loudness.

Rules of this file: no I/O; pure functions over arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mertd.memory.similarity.centre import centred_units

Matrix = NDArray[np.float32]
Labels = NDArray[np.integer]


def average_precisions(similarities: Matrix, queries: Labels, base: Labels) -> NDArray[np.float64]:
    """Return the average precision of each query, (queries,). `similarities`: (queries, base).

    What has the label of the query counts as relevant; of equal similarities the irrelevant come first, so that a space in
    which everything is alike gains nothing.
    """
    found = np.zeros(len(queries))
    for at, label in enumerate(queries):
        relevant = base == label
        order = np.lexsort((relevant, -similarities[at]))
        hits = relevant[order]
        ranks = np.flatnonzero(hits) + 1
        found[at] = float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else 0.0
    return found


def nearest_is_right(similarities: Matrix, queries: Labels, base: Labels) -> NDArray[np.float64]:
    """Return for each query 1 if what is nearest has its label, otherwise 0."""
    found: NDArray[np.float64] = (base[similarities.argmax(axis=1)] == queries).astype(np.float64)
    return found


def chance(base: Labels, queries: Labels) -> float:
    """Return the mean average precision that random similarities would have, from 200 random orders with a fixed seed."""
    generator = np.random.default_rng(0)
    trials = [average_precisions(generator.random((1, len(base)), np.float32), queries[:1], base) for _ in range(200)]
    return float(np.mean(trials))


def mean_cosine(vectors: Matrix, labels: Labels, mean: Matrix) -> float:
    """Return the mean cosine of vectors with different labels, seen from `mean`."""
    units = centred_units(vectors, mean)
    different = labels[:, None] != labels[None]
    return float((units @ units.T)[different].mean())


def loudness_share(vectors: Matrix, levels_db: NDArray[np.floating]) -> float:
    """Return the share of the variance that a straight line over the level explains, 0 to 1, less what chance would explain."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    level = levels_db.astype(np.float64) - levels_db.mean()
    total = float(np.square(centred).sum())
    power = float(np.square(level).sum())
    if not total or not power or len(vectors) < 3:
        return 0.0
    explained = float(np.square(level @ centred).sum()) / power / total
    return max(0.0, 1 - (1 - explained) * (len(vectors) - 1) / (len(vectors) - 2))
