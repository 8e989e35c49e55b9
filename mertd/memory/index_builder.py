"""Builds the indexes of full files in the background, in the process that remembers, so that the first search finds them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mertd.errors import MertdError, StoreError
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import complete_groups, open_if_there, segments
from mertd.memory.segment_files import CLOSED_SUFFIX, number_of, version_of

if TYPE_CHECKING:
    from mertd.memory.searched_file import SearchedFile

Built = tuple[str, tuple[object, ...]]
"""What an index is of: how the names of its files begin, and what tells these from later ones of the same names."""

JOIN_S = 0.3
"""Seconds to wait for a file that is in work, when all shall stop."""

log = logging.getLogger(__name__)


class IndexBuilder:
    """One thread at a time, for the files and groups of files that have no index yet. Without USearch it does nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tried: set[Built] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to build what is missing, unless that is being done."""
        if self._thread is not None and self._thread.is_alive():
            return
        wanted = {*self._wanted()}
        untried, self._tried = wanted - self._tried, wanted
        if any(not list(self._folder.glob(f"{name}.*.similar")) for name, _ in untried):
            self._thread = threading.Thread(target=self.build, name="index", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Build no further file. The one in work ends with the process, if it takes longer; it is then built another time."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def build(self) -> None:
        """Build what is missing, in the thread of the caller. The files of one group are open at once, not all."""
        from mertd.memory.similar_search import has_index_library  # numpy's search is not needed to remember

        if not has_index_library():
            return
        try:
            for space in Memory(self._folder).spaces():
                self._build_space(space)
        except (MertdError, OSError) as error:
            if not self._stopping:
                log.warning("an index could not be built, and a search may take longer: %s", error)

    def _build_space(self, space: str) -> None:
        from mertd.memory.file_group import FileGroup
        from mertd.memory.similarity.centre import Centre
        from mertd.memory.similarity.frame import Frame

        centre: Centre | None = None
        found: list[Path] = []
        for path in self._full():
            with self._opened([path], space) as parts:
                for part in parts:
                    centre = Centre(part.vectors.size) if centre is None else centre
                    centre.merge(part.statistics.centre)
                    found.append(path)
        if centre is None:
            return
        frame: Frame | None = None
        for path in found:
            with self._opened([path], space) as parts:
                for part in parts:
                    part.ensure_index(centre, self._check, frame)
                    frame = part.frame or frame
        for members in complete_groups([number_of(path) for path in found], self._last()).values():
            with self._opened([path for path in found if number_of(path) in members], space) as parts:
                if len(parts) == len(members):
                    FileGroup(parts).ensure_index(centre, self._check, frame)

    @contextmanager
    def _opened(self, paths: Sequence[Path], space: str) -> Iterator[list[SearchedFile]]:
        """Open files for a while; those that are gone, or have no vectors of the space, are left out."""
        from mertd.memory.searched_file import SearchedFile

        with ExitStack() as stack:
            parts = []
            for path in paths:
                segment = open_if_there(path)
                if segment is not None:
                    part = SearchedFile(stack.enter_context(segment), space)
                    part.refresh(self._check)
                    parts.append(part)
            yield [part for part in parts if part.has_vectors]

    def _wanted(self) -> list[Built]:
        """Return the full files, and the groups of them, each with what tells it from later ones of the same name."""
        full = self._full()
        versions = {number_of(path): version_of(path) for path in full}
        files: list[Built] = [(f"{number:06d}", (version,)) for number, version in versions.items()]
        groups = complete_groups([*versions], self._last()).values()
        return files + [(f"{members[0]:06d}-*", tuple(versions[number] for number in members)) for members in groups]

    def _last(self) -> int:
        return max(map(number_of, segments(self._folder)), default=0)

    def _full(self) -> list[Path]:
        return [path for path in segments(self._folder) if path.name.endswith(CLOSED_SUFFIX)]

    def _check(self, what: str) -> None:
        if self._stopping:
            raise StoreError(f"stopped before {what}")
        log.info("%s", what)
