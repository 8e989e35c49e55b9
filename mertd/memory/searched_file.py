"""One file of the memory as the search sees it, with what is built from a full file and kept beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mertd.errors import StoreError
from mertd.memory.memory_folder import upkeep
from mertd.memory.segment import Segment
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.growing_index import GrowingIndex
from mertd.memory.similarity.index_layout import IndexFileError
from mertd.memory.similarity.segment_index import SUFFIX, SegmentIndex, ensure_index, open_index
from mertd.memory.space_statistics import Statistics, blocks
from mertd.memory.space_vectors import ROW, SpaceVectors

CENTRE_SUFFIX = ".centre"
"""Ending of the name of a file with what calibrates similarity."""

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Told what is being built, for each file that takes time."""


class ChangedError(StoreError):
    """A file was changed, or replaced, while something was built from it."""


class SearchedFile:
    """One file of the memory, open, with what was built from it for one space."""

    def __init__(self, segment: Segment, space: str) -> None:
        self.vectors = SpaceVectors(segment, space)
        self.inode = segment.path.stat().st_ino
        self.digest = ""
        self.statistics = Statistics(self.vectors.size)
        self.index: SegmentIndex | GrowingIndex | None = None
        self._segment = segment
        self._last = 0
        self._forgotten = -1

    @property
    def number(self) -> int:
        """Place of the file in the memory."""
        return self._segment.number

    @property
    def closed(self) -> bool:
        """Whether the file is full."""
        return self._segment.closed

    @property
    def has_vectors(self) -> bool:
        """Whether there is anything of the space, as of the last refresh."""
        return bool(self.vectors.size and self.statistics.centre.count)

    @property
    def state(self) -> str:
        """Name and digest of what the statistics are of."""
        return f"{self.vectors.name} {self.digest}"

    def refresh(self, progress: Progress, frame: Frame | None = None) -> None:
        """Bring the statistics up to date with the file. A full file never changes: another one takes its place.

        `frame`: that of an index of the space, in which a file that is being written is searched too.
        """
        if self.digest and self._segment.closed:
            return
        digest = self.vectors.digest
        if digest == self.digest:
            return
        forgotten = self._segment.fact("forgotten")
        if self._segment.closed:
            self.statistics = self._kept(digest, progress)
            self.index = None
        else:
            if forgotten != self._forgotten:  # what was deleted cannot be taken out of a mean: begin again
                self.vectors.reread()
                self.statistics = Statistics(self.vectors.size)
                self.index = None
                self._last = 0
            self._grow(frame)
        self._forgotten = forgotten
        self.digest = digest

    @property
    def frame(self) -> Frame | None:
        """That of the index of a full file, if it has one."""
        return self.index.frame if isinstance(self.index, SegmentIndex) else None

    def open_index(self) -> None:
        """Open the index of a full file, if there is one in order."""
        if self.index is None and self._segment.closed:
            with suppress(IndexFileError):
                self.index = open_index(self.vectors, self._index_path)

    def ensure_index(self, centre: Centre, progress: Progress, frame: Frame | None = None) -> None:
        """Open the index of a full file, and build it if need be, in the frame of another index if that still fits."""
        if isinstance(self.index, GrowingIndex):
            self.index.see_from(centre.mean)
            return
        if not self._segment.closed or (self.index is not None and not self.index.stale(centre)):
            return
        path = self._index_path
        if not path.exists():
            progress(f"building the index of {self._segment.path.name}")
        try:
            self.index = ensure_index(self.vectors, path.parent, centre, frame, self.unchanged)
        except ChangedError as error:
            log.info("%s", error)
        except OSError as error:
            log.warning("no index of %s, which is compared number by number: %s", self._segment.path.name, error)

    def is_current(self) -> bool:
        """Return whether the file is still there, and not another one in its place."""
        with suppress(OSError):
            return self._segment.path.stat().st_ino == self.inode
        return False

    def check_unchanged(self, digest: str | None = None) -> None:
        """Raise `ChangedError` if the file is not what it was when it was refreshed; or has not this digest."""
        if not self.is_current() or self.vectors.digest != (self.digest if digest is None else digest):
            name = self._segment.path.name
            raise ChangedError(f"{name} was changed while something was built from it, which is thrown away")

    @contextmanager
    def unchanged(self, digest: str | None = None) -> Iterator[None]:
        """Keep others from forgetting, so that nothing that was forgotten is written. Raises `ChangedError`."""
        with upkeep(self._segment.path.parent, waits=True):
            self.check_unchanged(digest)
            yield

    def close(self) -> None:
        self._segment.close()

    @property
    def _index_path(self) -> Path:
        return self._segment.path.with_name(f"{self.vectors.name}{SUFFIX}")

    def _kept(self, digest: str, progress: Progress) -> Statistics:
        path = self._segment.path.with_name(f"{self.vectors.name}{CENTRE_SUFFIX}")
        found = Statistics.load(path, digest)
        if found is None:
            progress(f"reading {self._segment.path.name}")
            found = Statistics(self.vectors.size)
            for part, values in blocks(self.vectors):
                found.add(part, values)
            # A memory that may only be read, or a file that was changed: it is computed again.
            with suppress(OSError, StoreError), self.unchanged(digest):
                found.save(path, digest)
        return found

    def _grow(self, frame: Frame | None) -> None:
        """Read what was added to the file that is being written."""
        self.vectors.reread()
        if not self.statistics.centre.size:
            self.statistics = Statistics(self.vectors.size)
        if not isinstance(self.index, GrowingIndex):
            fitting = frame if frame is not None and len(frame.mean) == self.vectors.size else None
            self.index = GrowingIndex(self.vectors.size, fitting)
        for part, values in blocks(self.vectors, self._last):
            self.statistics.add(part, values)
            self.index.add(part, values, self.statistics.centre.spread)
            self._last = int(part.ids[-1]) & ROW
