"""How much is kept: for a time, or up to a size. Whole files are deleted, oldest first; never the one that is being written."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from mertd.errors import StoreError
from mertd.memory.amounts import Keep
from mertd.memory.memory_folder import DAMAGED_SUFFIX, open_if_there, segments, upkeep
from mertd.memory.segment import Segment
from mertd.memory.segment_files import number_of, remove

PATIENCE_S = 3_600.0
"""Seconds for which a file must be too old before it is deleted."""

log = logging.getLogger(__name__)


def outdated(folder: Path, keep: Keep, now_ns: int) -> list[Path]:
    """Return the files that `keep` does not cover. Raises `StoreError`."""
    full = segments(folder)[:-1]
    if keep.bytes is not None:
        return _beyond_size(folder, full, keep.bytes)
    if keep.seconds is None:
        return []
    oldest_ns = now_ns - round(keep.seconds * 1e9)
    found = []
    for path in full:
        segment = open_if_there(path)
        if segment is None:
            continue
        with segment:
            if segment.span_ns() is not None and not _is_old(segment, oldest_ns, now_ns):
                break
        found.append(path)
    return found


class Retention:
    """Deletes what is no longer to be kept, when it is asked to look.

    Age is judged by the clock, which may be wrong for a while after a machine has started. So a file must be too old at two
    looks, PATIENCE_S apart, and at all between them.
    """

    def __init__(self, folder: Path, keep: Keep) -> None:
        self._folder = folder
        self._keep = keep
        self._since: dict[Path, float] = {}  # monotonic seconds of the first look at which a file was too old

    def apply(self) -> list[Path]:
        """Delete files, and return them. Does nothing while another process deletes. Raises `StoreError`."""
        if self._keep == Keep():
            return []
        with upkeep(self._folder, waits=False) as held:
            deleted = self._ripe(outdated(self._folder, self._keep, time.time_ns())) if held else []
            for path in deleted:
                try:
                    remove(path)
                    _remove_damaged_before(path)
                except OSError as error:
                    raise StoreError(f"{path} cannot be deleted: {error.strerror}") from error
                log.info("%s is older than what is kept, and was deleted", path.name)
        return deleted

    def _ripe(self, found: list[Path]) -> list[Path]:
        """Return those of the files that were too old for long enough."""
        if self._keep.seconds is None:
            return found
        now = time.monotonic()
        self._since = {path: self._since.get(path, now) for path in found}
        return [path for path in found if now >= self._since[path] + PATIENCE_S]


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a memory, indexes included."""
    return sum(path.stat().st_size for path in folder.glob("[0-9]*.*") if path.is_file())


def _is_old(segment: Segment, oldest_ns: int, now_ns: int) -> bool:
    """Return whether all of a file is from before a time. What is from the future does not count: that clock was wrong."""
    (found,) = segment.rows(
        "SELECT max(high) FROM (SELECT max(start_ns) AS high FROM embeddings WHERE start_ns <= ?"
        " UNION ALL SELECT max(time_ns) FROM events WHERE time_ns <= ?)",
        (now_ns, now_ns),
    )
    return found[0] is not None and found[0] < oldest_ns


def _remove_damaged_before(path: Path) -> None:
    """Delete files that were set aside and are older than one that was deleted."""
    for damaged in path.parent.glob(f"[0-9]*{DAMAGED_SUFFIX}*"):
        if number_of(damaged) < number_of(path):
            damaged.unlink(missing_ok=True)


def _beyond_size(folder: Path, full: list[Path], limit: int) -> list[Path]:
    excess = folder_bytes(folder) - limit
    found = []
    for path in full:
        if excess <= 0:
            break
        stem = path.name.partition(".")[0]
        excess -= sum(beside.stat().st_size for beside in folder.glob(f"{stem}.*"))
        found.append(path)
    return found
