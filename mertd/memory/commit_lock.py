"""One at a time: connections that commit to the file that is being written, or write its log back.

SQLite lets one connection write the log back while another one commits. Its versions before 3.51.3 (but for 3.50.7 and 3.44.6)
can then lose commits: the process that writes the log back may miss that the other one has begun the log anew
(https://www.sqlite.org/wal.html#walresetbug). With this lock that cannot happen. Only two processes ever write to a file: the
one that remembers, and `mertd memory forget`. Each holds the lock while it commits and writes back. The connections of all
others are read-only: they never write the log back, not even when the last of them is closed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mertd.errors import StoreError
from mertd.memory.segment_files import open_lock

COMMIT_LOCK = "commit.lock"

LOOK_S = 0.02
"""Seconds between two attempts to get the lock."""

MAX_WAIT_S = 5.0
"""Seconds to wait for the lock."""


class CommitLock:
    """The lock of one memory, as one connection uses it. A process that dies gives it back."""

    def __init__(self, folder: Path) -> None:
        """Open the lock. Raises `StoreError`."""
        self._path = folder / COMMIT_LOCK
        self._descriptor = open_lock(self._path)

    @contextmanager
    def held(self, waits: bool = True) -> Iterator[None]:
        """Hold the lock. Raises `StoreError` if another process has it, and does not give it back in time, if this `waits`."""
        deadline = time.monotonic() + (MAX_WAIT_S if waits else 0.0)
        while not self._taken():
            if time.monotonic() >= deadline:
                raise StoreError(f"{self._path.parent}: another process has been writing for {MAX_WAIT_S:g} s; try again")
            time.sleep(LOOK_S)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(f"{self._path} cannot be locked: {error.strerror}; keep the memory on a local disk") from error
        return True

    def close(self) -> None:
        os.close(self._descriptor)
