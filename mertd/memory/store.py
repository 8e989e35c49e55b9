"""The memory as the one process sees it that writes to it: appends in transactions, and begins another file when one is full.

What `append` has returned from is on the disk. A message is stored once: `seq` counts per (boot, kind, stream) without holes,
so a number below the expected one is a duplicate, and one above it leaves a hole, which is stored too.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from mertd.errors import StoreError
from mertd.memory.commit_lock import CommitLock
from mertd.memory.file_system import shared_type
from mertd.memory.holes import HoleReason
from mertd.memory.memory_folder import (
    WRITER_LOCK,
    FolderLock,
    make,
    next_number,
    segments,
    set_aside,
    tidy,
    upkeep,
)
from mertd.memory.rewriting import bring_up_to_date
from mertd.memory.segment import KIND_TABLES, FileGoneError, Segment, begin_file, explained
from mertd.memory.segment_files import CLOSED_SUFFIX, open_path
from mertd.memory.writing import PLACE_FACT, Writer, carry
from mertd.wire import Embedding, Event, Status

MAX_FILE = 256 << 20
"""Bytes after which another file begins: 128,000 vectors of one layer, or a week of one stream at a hop of 5 s. The file that
is being written has no index and is searched number by number, so it must stay small; retention deletes whole files.
"""

SET_FACT = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"

MAX_FILE_AGE_S = 31 * 86_400.0
"""Seconds after which another file begins, so that retention by age is exact to a month."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Appended:
    """What became of messages: `stored`, or there before; and `missing`, messages between them that did not come."""

    stored: int
    duplicates: int
    missing: int


class Store:
    """A memory, open for writing. One process at a time has it; it must be used by one thread at a time.

    Attributes:
        folder: where its files are.
    """

    def __init__(self, folder: Path, max_file: int = MAX_FILE, max_age_s: float = MAX_FILE_AGE_S) -> None:
        """Open a memory, or begin one. A damaged last file is set aside, and the loss stored as holes.

        Raises `StoreError` if another process writes to it, or it cannot be opened.
        """
        make(folder)
        if (kind := shared_type(folder)) is not None:
            log.warning("%s is on a network file system (%s); only processes of this machine may use the memory", folder, kind)
        self.folder = folder
        self._max_file = max_file
        self._max_age_s = max_age_s
        self._reason_of_holes = HoleReason.MISSED
        self._lock = FolderLock(folder, WRITER_LOCK)
        try:
            self._commits = CommitLock(folder)
        except BaseException:
            self._lock.release()
            raise
        try:
            with upkeep(folder, waits=True), self._commits.held():
                tidy(folder)
                self._segment = self._open_last()
                self._bring_up_to_date()
                # What a process that was killed had deleted is still in the log, or was not yet deleted in the file.
                with explained(self._segment.path):
                    self._segment.write_back()
            self._writer = Writer(self._segment)
        except BaseException:
            self._release()
            raise

    @property
    def current(self) -> Segment:
        """The file that is being written."""
        return self._segment

    def cursor(self) -> dict[bytes, dict[tuple[str, str], int]]:
        """Return the `seq` of the next message for each boot, kind and stream: what to ask daemons for."""
        return self._writer.cursor()

    def place(self, name: str) -> str | None:
        """Return what was kept under a name with the messages that were stored last. Raises `StoreError`."""
        found = self._segment.rows("SELECT value FROM facts WHERE name = ?", (PLACE_FACT + name,))
        return str(found[0][0]) if found else None

    def append(
        self,
        messages: Iterable[Embedding | Event],
        reason: HoleReason = HoleReason.MISSED,
        places: Mapping[str, str] | None = None,
    ) -> Appended:
        """Store messages, all or none, and return when they are on the disk. `reason`: why those between them are missing.

        `places`: what to keep with them, by name, of the places that they come from.
        Raises `StoreError` if they cannot be written, as with a full disk; the memory is then as before. `must_reopen` says
        whether this object is of no use any more.
        """
        if self._reason_of_holes is not HoleReason.MISSED:
            reason = self._reason_of_holes
        if self._is_full():
            with explained(self._segment.path):
                self._begin_next()
        with self._writing(reason) as writer:
            for message in messages:
                writer.add(message)
            for name, place in (places or {}).items():
                self._segment.db.execute(SET_FACT, (PLACE_FACT + name, place))
        return Appended(writer.stored, writer.duplicates, writer.missing)

    def note_sent(self, status: Status, reason: HoleReason = HoleReason.MISSED) -> int:
        """Store that what a daemon had sent before its status, and is not here, is missing. Returns how many messages that are.

        Raises `StoreError`.
        """
        if not self._writer.lacks(status):
            return 0
        with self._writing(reason) as writer:
            writer.note_sent(status)
        return writer.missing

    @contextmanager
    def _writing(self, reason: HoleReason) -> Iterator[Writer]:
        """Commit what is added within, all or nothing."""
        writer = self._writer
        with self._commits.held(), explained(self._segment.path):
            self._segment.check_in_place()
            writer.begin(reason)
            try:
                with self._segment.transaction():
                    yield writer
                    writer.finish()
            except BaseException:
                writer.reload()
                raise

    def close(self) -> None:
        """Write the log into the file, and let others write."""
        with suppress(StoreError, sqlite3.Error), self._commits.held(waits=False):  # what stays in the log is as safe there
            self._segment.write_back()
        self._segment.close()
        self._release()

    def _release(self) -> None:
        self._commits.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Files

    def _open_last(self) -> Segment:
        """Open the file that was written last, or begin one; a damaged file is set aside."""
        while paths := segments(self.folder):
            last = paths[-1]
            before = paths[-2] if len(paths) > 1 else None
            if not last.name.endswith(CLOSED_SUFFIX):
                try:
                    found = Segment(last, partial(self._carry_from, before))
                    return _checked(found)
                except StoreError as error:
                    if not is_damage(error):
                        raise
                    aside = set_aside(last)
                    self._reason_of_holes = HoleReason.DAMAGED
                    log.error("%s is damaged and is set aside as %s: %s", last.name, aside.name, error)
                    continue
            return self._begin_file(last)
        return self._begin_file(None)

    def _begin_file(self, previous: Path | None) -> Segment:
        """Begin a file. Raises `StoreError`."""
        try:
            return begin_file(open_path(self.folder, next_number(self.folder)), partial(self._carry_from, previous))
        except OSError as error:
            raise StoreError(f"no further file can be made in {self.folder}: {error.strerror}") from error

    @staticmethod
    def _carry_from(previous: Path | None, db: sqlite3.Connection) -> None:
        """Begin a file with what the one before it knows of streams and cursors."""
        db.execute("INSERT INTO facts VALUES ('begun_ns', ?)", (time.time_ns(),))
        if previous is not None:
            with Segment(previous) as old:
                carry(old.db, db)

    def _is_full(self) -> bool:
        segment = self._segment
        if segment.bytes >= self._max_file:
            return True
        age_s = (time.time_ns() - segment.begun_ns) / 1e9
        return age_s > self._max_age_s and any(segment.count(kind) for kind in KIND_TABLES)

    def _begin_next(self) -> None:
        """Begin another file, unless files are being deleted at this moment: then the next append does it."""
        with upkeep(self.folder, waits=False) as held:
            if not held:
                return
            following = self._begin_file(self._segment.path)
            with suppress(sqlite3.Error), self._commits.held():
                self._segment.write_back()
            self._segment.close()
            self._segment = following
            self._writer = Writer(following)
            self._reason_of_holes = HoleReason.MISSED
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        """Write files anew that are full but not compact, or of an older version. What fails is tried again another time."""
        for path in segments(self.folder)[:-1]:
            try:
                bring_up_to_date(path)
            except (StoreError, sqlite3.Error, OSError) as error:
                log.warning("%s stays as it is: %s", path.name, error)


def is_damage(error: StoreError) -> bool:
    """Return whether an error says that a file is damaged, not that it cannot be reached or is another version's."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.DatabaseError) and not isinstance(cause, sqlite3.OperationalError | sqlite3.IntegrityError)


def must_reopen(error: StoreError) -> bool:
    """Return whether a memory must be opened anew after an error: its file is damaged, or was taken away."""
    return isinstance(error, FileGoneError) or is_damage(error)


def _checked(segment: Segment) -> Segment:
    """Return a file whose structure is sound. Raises `StoreError`."""
    try:
        with explained(segment.path):
            (found,) = segment.db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
    except BaseException:
        segment.close()
        raise
    return segment
