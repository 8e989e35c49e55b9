"""What is known to be missing from the memory, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mertd.memory.rows import Source


class HoleReason(StrEnum):
    """Why messages are missing."""

    MISSED = "missed"  # they did not come, and the daemon's history did not give them when it was asked
    DISK = "disk"  # nothing could be written, and the daemon's history had passed by when it could
    DAMAGED = "damaged"  # they were in a file that could no longer be read
    RUN_OVER = "run over"  # the daemon's run ended without saying so; how many messages it still sent is unknown
    UNSTORABLE = "unstorable"  # they hold a number that SQLite cannot hold
    FORGOTTEN = "forgotten"  # they were deleted on request


@dataclass(frozen=True)
class Hole:
    """Messages of a kind with first <= `seq` < end that are missing. `kind`: empty for both. `end`: None if unknown."""

    source: Source
    kind: str
    first: int
    end: int | None
    reason: str
    noted_ns: int  # Unix time
