"""Keeps the log of the agent small: launchd opens the file and appends for ever, and nothing on macOS rotates a user's log.

Rules of this file: the log is renamed and a new one takes its place under the same descriptors, so a line is never cut and
whatever writes to them goes on writing. Nothing here may harm the daemon; what fails is tried again later.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path

MAX_BYTES = 10 << 20
"""Size above which the log is rotated."""

KEPT = 2
"""Older logs that are kept, as mertd.log.1 and mertd.log.2."""

CHECK_S = 60.0
"""Seconds between two looks at the size."""

DESCRIPTORS = (1, 2)
"""Standard output and standard error, which launchd has opened as the log."""


def rotate_if_large(path: Path, max_bytes: int = MAX_BYTES, descriptors: tuple[int, ...] = DESCRIPTORS) -> bool:
    """Rotate the log at `path` if `descriptors` write to it and it is larger than `max_bytes`. Raises `OSError`."""
    found = os.fstat(descriptors[-1])
    if found.st_size <= max_bytes or not os.path.samestat(found, path.stat()):
        return False
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, KEPT + 1))]
    for newer, older in reversed(list(itertools.pairwise(names))):
        if newer.exists():
            newer.replace(older)
    new = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for descriptor in descriptors:
        os.dup2(new, descriptor)
    os.close(new)
    return True


def keep_log_small(path: Path) -> None:
    """Rotate the log now and whenever it has grown, in a thread of its own."""

    def watch() -> None:
        never = threading.Event()
        while True:
            with contextlib.suppress(OSError):
                rotate_if_large(path)
            never.wait(CHECK_S)

    threading.Thread(target=watch, name="log-rotation", daemon=True).start()
