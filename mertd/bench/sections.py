"""What `mertd bench` can measure.

Rules of this file: it imports nothing of mertd, so that `mertd bench --help` can afford it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SECTIONS = ("backends", "daemon", "fanout", "startup", "streams")
"""What is measured if nothing else is asked for."""

ON_REQUEST = ("changes", "energy", "files", "memory", "rooms")
"""What is measured only if `--only` names it: `changes` and `rooms` need FluidSynth, the others take minutes."""


@dataclass(frozen=True)
class Plan:
    """What to measure, and how thoroughly. `quick`: a small network and short rounds, to see that everything works."""

    sections: Sequence[str]
    weights: str = "random:0"
    seconds: float = 30.0  # of audio in a window
    runs: int = 5
    batches: Sequence[int] = ()
    first_streams: int = 1
    most_streams: int = 64
    stream_source: str = "synth:chords"  # of each stream
    files: int = 8  # recordings that are embedded
    length: float = 60.0  # of each of them, seconds
    pieces: int = 6  # of music, in which changes, or the same music, are to be found
    vectors: int = 40_960  # in the memory that is searched, and in each store beside it
    week: int = 20_000  # vectors that stand for a week
    against: Sequence[str] = ("numpy",)  # stores to compare with
    quick: bool = False
