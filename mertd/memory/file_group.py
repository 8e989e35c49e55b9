"""Full files that are searched together: one graph of eight files is searched in an eighth of the time of eight graphs.

Files of neighbouring numbers make a group once a later one has been begun. Its index (`000001-000008.SPACE.similar`) is built
in the background, by the process that remembers, and is of use only as long as none of its files changes; without it, each file
is searched by an index of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from mertd.memory.memory_folder import complete_groups
from mertd.memory.queries import ID_SHIFT
from mertd.memory.searched_file import ChangedError, Progress, SearchedFile
from mertd.memory.segment_files import version_of
from mertd.memory.similarity.centre import Centre
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.index_layout import IndexFileError
from mertd.memory.similarity.segment_index import SUFFIX, SegmentIndex, ensure_index, open_index
from mertd.memory.similarity.vector_segment import Ints, SegmentTable

log = logging.getLogger(__name__)


class FileGroup:
    """The files of a group as one `VectorSegment`."""

    def __init__(self, parts: Sequence[SearchedFile]) -> None:
        """`parts`: at least one, open, by number, with vectors of one space and size."""
        self._parts = {part.number: part for part in parts}
        first, last = parts[0].vectors, parts[-1].vectors
        self._name = f"{first.name.partition('.')[0]}-{last.name}"
        self._size = first.size
        self.path = first.path.with_name(f"{self._name}{SUFFIX}")

    @property
    def name(self) -> str:
        return self._name

    @property
    def digest(self) -> str:
        """Changes when a file does."""
        digests = "\n".join(part.state for part in self._parts.values())
        return hashlib.blake2b(digests.encode(), digest_size=16).hexdigest()

    @property
    def size(self) -> int:
        return self._size

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of its files."""
        return frozenset(self._parts)

    def table(self) -> SegmentTable:
        """Return when each vector was heard."""
        tables = [part.vectors.table() for part in self._parts.values()]
        names = ("ids", "start_ns", "end_ns", "streams")
        return SegmentTable(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))

    def vectors(self, ids: Ints) -> NDArray[np.float32]:
        """Return the vectors with these ids; of one that was forgotten meanwhile, what is not finite."""
        found = np.full((len(ids), self._size), np.nan, np.float32)
        numbers = ids >> ID_SHIFT
        for number in np.unique(numbers).tolist():
            rows = numbers == number
            found[rows] = self._parts[number].vectors.vectors(ids[rows])
        return found

    def open_index(self) -> SegmentIndex:
        """Open the index. Raises `IndexFileError` if there is none in order."""
        return open_index(self, self.path)

    def ensure_index(self, centre: Centre, progress: Progress, frame: Frame | None) -> None:
        """Build the index if it is not in order, in the frame of another index if that still fits."""
        if not self.path.exists():
            progress(f"building the index of {self._name}")
        try:
            ensure_index(self, self.path.parent, centre, frame, self._unchanged)
        except ChangedError as error:
            log.info("%s", error)
        except OSError as error:
            log.warning("no index of %s; each file is searched by its own: %s", self._name, error)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Keep others from forgetting, so that nothing that was forgotten is written. Raises `ChangedError`."""
        *others, last = self._parts.values()
        with last.unchanged():
            for part in others:
                part.check_unchanged()
            yield


class OpenGroups:
    """The indexes of groups, kept open between searches."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, FileGroup, SegmentIndex | None]] = {}  # with what they were opened from

    def update(self, full: Sequence[SearchedFile], last: int) -> list[tuple[FileGroup, SegmentIndex]]:
        """Return the groups whose index is in order; what is gone is closed. Arguments as of `grouped`."""
        known, self._known = self._known, {}
        for number, members in grouped(full, last).items():
            group = FileGroup(members)
            state = (tuple(part.state for part in members), version_of(group.path))
            before = known.get(number)
            if before is None or before[0] != state:
                index = None
                with suppress(IndexFileError):
                    index = group.open_index()
                before = (state, group, index)
            self._known[number] = before
        return [(group, index) for _, group, index in self._known.values() if index is not None]


def grouped(full: Sequence[SearchedFile], last: int) -> dict[int, list[SearchedFile]]:
    """Return the files of each complete group. `full`: those with vectors, by number; `last`: the highest number of all."""
    members = complete_groups([part.number for part in full], last)
    return {group: [part for part in full if part.number in numbers] for group, numbers in members.items()}
