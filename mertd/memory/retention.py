"""How much is kept: for a time, or up to a size. Whole files are deleted, oldest first; never the one that is being written."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from mertd.errors import StoreError
from mertd.memory.amounts import Keep
from mertd.memory.memory_folder import open_if_there, segments, upkeep
from mertd.memory.segment_files import remove

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
            span = segment.span_ns()
        if span is not None and span[1] >= oldest_ns:
            break
        found.append(path)
    return found


def retain(folder: Path, keep: Keep) -> list[Path]:
    """Delete what is no longer to be kept, and return it. Does nothing while another process deletes. Raises `StoreError`."""
    if keep == Keep():
        return []
    with upkeep(folder, waits=False) as held:
        deleted = outdated(folder, keep, time.time_ns()) if held else []
        for path in deleted:
            try:
                remove(path)
            except OSError as error:
                raise StoreError(f"{path} cannot be deleted: {error.strerror}") from error
            log.info("%s is older than what is kept, and was deleted", path.name)
    return deleted


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a memory, indexes included."""
    return sum(path.stat().st_size for path in folder.glob("[0-9]*.*") if path.is_file())


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
