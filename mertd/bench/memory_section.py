"""The section `memory` of `mertd bench`: searching, what users would build instead, a week, and what publishing suffers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mertd.bench.made_memory import MadeMemory
from mertd.bench.moment_search import measure_search
from mertd.bench.music_vectors import PIECE_WINDOWS, MusicVectors
from mertd.bench.sections import Plan
from mertd.bench.stores import measure_stores
from mertd.bench.week import WEEK_FILES, measure_publishing, measure_week
from mertd.embed.threads import current

FILE_BLOCKS = 6
"""Blocks of music in a full file, at most: 122,880 vectors, as many as a file of the memory holds."""

SINGLES = 100
"""One vector of so many is appended on its own."""


def measure_memory(plan: Plan, progress: Callable[[str], object]) -> dict[str, Any]:
    """Return the figures of the section."""
    questions = 20 if plan.quick else 200
    workers = current().count
    music = MusicVectors(max(1, plan.vectors // PIECE_WINDOWS))
    with tempfile.TemporaryDirectory(prefix="mertd-") as name:
        blocks = MadeMemory(Path(name), music, 1, 1).blocks
        size = max(1, min(FILE_BLOCKS, blocks // 2))
        made = MadeMemory(Path(name), music, size, -(-size // 2))
        search = measure_search(made, questions, workers, progress)
    stored = 2_000 if plan.quick else plan.vectors
    return {
        "search": search,
        "stores": measure_stores(plan.against, stored, max(25, stored // SINGLES), questions // 10, progress),
        "week": measure_week(plan.week, min(WEEK_FILES, max(2, plan.week // 300)), progress),
        "publishing": measure_publishing(2, 20 if plan.quick else 400, progress),
    }
