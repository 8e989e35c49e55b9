"""How well two streams fit together at each lag, block of time by block of time.

For a block of one stream, all lags compete: the score of a lag depends on its rank among them alone. So nothing must be known
of the size of similarities, which differs between models, rooms and kinds of music. If the two sounds have nothing to do with
each other, every rank is equally likely, and the score is the logarithm of a likelihood ratio: of aligned sound over chance.

Rules of this file: no I/O, no clock, no random numbers; memory is bounded by a chunk of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

from mertd.memory.across.track import Track, on_grid
from mertd.memory.similarity.vector_segment import Floats

STEPS_A_WINDOW = 8
"""Steps of the grid into which a window is divided at most; a smaller hop tells no more."""

CHUNK_ROWS = 256
"""Rows that are compared at once."""

MIN_REACH = 120
"""Steps either way that lags reach at least, whatever is asked for: the more compete, the more the best of them says."""

MIN_LAGS = 16
"""Fewest lags that may compete in a block, where a stream has gaps."""

ALIGNED_MEAN = 3.0
"""Mean surprise of an aligned block, in nats, for which the score is the best one. By chance the mean is 1."""


@dataclass(frozen=True)
class Comparison:
    """Two streams on one grid, and the lags, in steps, at which they are compared. `later` begins `-first_lag` steps early."""

    earlier: Floats  # (n, directions)
    later: Floats  # (n + lags - 1, directions): row i + j is compared with row i of `earlier` at lag number j
    first_ns: int  # time of row 0 of `earlier`
    step_ns: int
    first_lag: int
    rows_a_block: int

    @property
    def lags(self) -> int:
        """Number of lags."""
        return len(self.later) - len(self.earlier) + 1

    @property
    def blocks(self) -> int:
        """Number of blocks of time."""
        return len(self.earlier) // self.rows_a_block

    def part(self, first: int, end: int) -> Comparison:
        """Return the same of some blocks."""
        rows = slice(first * self.rows_a_block, end * self.rows_a_block)
        later = self.later[rows.start : rows.stop + self.lags - 1]
        first_ns = self.first_ns + rows.start * self.step_ns
        return replace(self, earlier=self.earlier[rows], later=later, first_ns=first_ns)

    def backwards(self, share: float) -> Comparison:
        """Return the same with the later stream backwards, which is aligned nowhere. `share`: of it, where it begins."""
        return replace(self, later=np.roll(self.later[::-1], round(share * len(self.later)), axis=0))


def compared(one: Track, other: Track, within_ns: int) -> Comparison | None:
    """Return two streams on one grid, for lags up to `within_ns` or more; None if they have no time in common."""
    step_ns = max(min(one.hop_ns, other.hop_ns), one.window_ns // STEPS_A_WINDOW, 1)
    reach = max(MIN_REACH, -(-within_ns // step_ns))
    rows_a_block = max(1, -(-one.window_ns // step_ns))
    first = max(int(one.middle_ns[0]), int(other.middle_ns[0]) - reach * step_ns)
    first_ns = int(one.middle_ns[0]) + -(-(first - int(one.middle_ns[0])) // step_ns) * step_ns
    end_ns = min(int(one.middle_ns[-1]), int(other.middle_ns[-1]) + reach * step_ns)
    count = (end_ns - first_ns) // step_ns + 1
    count -= count % rows_a_block
    if count <= 0:
        return None
    return Comparison(
        earlier=on_grid(one, first_ns, step_ns, count),
        later=on_grid(other, first_ns - reach * step_ns, step_ns, count + 2 * reach),
        first_ns=first_ns,
        step_ns=step_ns,
        first_lag=-reach,
        rows_a_block=rows_a_block,
    )


def block_similarities(of: Comparison, apart: int = 0) -> Iterator[Floats]:
    """Yield mean similarities, (blocks, lags), some blocks at once; NaN where too little is known.

    `apart`: lags below that, in steps, are left out.
    """
    near = np.abs(np.arange(of.lags) + of.first_lag) < apart
    rows = max(1, CHUNK_ROWS // of.rows_a_block) * of.rows_a_block
    known_earlier = np.einsum("ij,ij->i", of.earlier, of.earlier) > 0
    known_later = np.einsum("ij,ij->i", of.later, of.later) > 0
    for first in range(0, of.blocks * of.rows_a_block, rows):
        part = slice(first, min(first + rows, of.blocks * of.rows_a_block))
        other = slice(first, part.stop + of.lags - 1)
        products = np.ascontiguousarray(of.earlier[part] @ of.later[other].T)
        count = part.stop - part.start
        row, column = products.strides
        along = as_strided(products, (count, of.lags), (row + column, column), writeable=False)
        both = sliding_window_view(known_later[other], of.lags)[:count] & known_earlier[part, None]
        shape = (count // of.rows_a_block, of.rows_a_block, of.lags)
        known = both.reshape(shape).sum(axis=1)
        sums = np.where(both, along, 0).reshape(shape).sum(axis=1)
        yield np.where((2 * known >= of.rows_a_block) & ~near, sums / np.maximum(known, 1), np.nan).astype(np.float32)


def surprises(similarities: Floats) -> NDArray[np.float64]:
    """Return how surprising the rank of each lag is in its block, in nats, (blocks, lags); NaN where nothing is known."""
    known = np.isfinite(similarities)
    counts = known.sum(axis=1, keepdims=True)
    order = np.argsort(np.where(known, -similarities, np.inf), axis=1)
    found = np.empty(order.shape, np.float64)
    np.put_along_axis(found, order, -np.log(np.arange(1.0, order.shape[1] + 1))[None], axis=1)
    found += np.log(np.maximum(counts, 1))
    return np.where(known & (counts >= MIN_LAGS), found, np.nan)


def scores(of: Comparison, apart: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield the score of each block at each lag, (blocks, lags), some blocks at once: zero where nothing is known.

    `apart`: lags below that, in steps, do not count.
    """
    for part in block_similarities(of, apart):
        found = surprises(part) * (1 - 1 / ALIGNED_MEAN) - math.log(ALIGNED_MEAN)
        yield np.nan_to_num(found, nan=0.0)


def profile(of: Comparison) -> NDArray[np.float64]:
    """Return the mean similarity at each lag, (lags,); NaN where less than half of the blocks are known."""
    sums, counts = np.zeros(of.lags), np.zeros(of.lags, np.int64)
    for part in block_similarities(of):
        known = np.isfinite(part)
        sums += np.where(known, part, 0).sum(axis=0)
        counts += known.sum(axis=0)
    return np.where((counts > 0) & (2 * counts >= of.blocks), sums / np.maximum(counts, 1), np.nan)
