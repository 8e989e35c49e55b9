from __future__ import annotations

import numpy as np

from memory.similarity.array_segment import steady_table
from mertd.memory.similarity.segment_index import to_int8
from mertd.memory.similarity.twins import TwinFinder


def test_one_stands_for_all_that_sound_the_same() -> None:
    units = np.eye(4, dtype=np.float32)[[0, 0, 1, 0, 2, 2, 2]]
    rows = np.arange(7) * 6
    finder = TwinFinder(steady_table(42))
    new = [*finder.add(rows[:3], units[:3], to_int8(units[:3])), *finder.add(rows[3:], units[3:], to_int8(units[3:]))]
    assert new == [True, False, True, False, True, False, False]
    assert finder.runs().tolist() == [[0, 0, 6], [0, 18, 18], [12, 12, 12], [24, 24, 36]]


def test_a_sound_that_changes_slowly_is_not_one_sound() -> None:
    """Each window is like the one before it, but not like the first."""
    angles = np.linspace(0, np.pi / 2, 100)
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    finder = TwinFinder(steady_table(600))
    new = finder.add(np.arange(100) * 6, units, to_int8(units))
    assert 20 < new.sum() < 100


def test_a_hole_ends_a_stretch() -> None:
    table = steady_table(3, hop_ns=60_000_000_000)
    units = np.ones((3, 1), np.float32)
    finder = TwinFinder(table)
    assert finder.add(np.arange(3), units, to_int8(units)).tolist() == [True, False, False]
    assert finder.runs().tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 2]]
