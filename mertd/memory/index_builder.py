"""Builds the indexes of full files in the background, in the process that remembers, so that the first search finds them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from mertd.errors import MertdError, StoreError
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import open_if_there, segments
from mertd.memory.segment_files import CLOSED_SUFFIX, version_of

JOIN_S = 0.3
"""Seconds to wait for a file that is in work, when all shall stop."""

log = logging.getLogger(__name__)


class IndexBuilder:
    """One thread at a time, for the files that have no index yet. Without USearch it does nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tried: set[tuple[Path, tuple[int, int] | None]] = set()  # files, and which of that name
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to build what is missing, unless that is being done."""
        if self._thread is not None and self._thread.is_alive():
            return
        full = [(path, version_of(path)) for path in self._full()]
        untried = [file[0] for file in full if file not in self._tried]
        self._tried = set(full)
        if any(not list(path.parent.glob(f"{path.name.partition('.')[0]}.*.similar")) for path in untried):
            self._thread = threading.Thread(target=self.build, name="index", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Build no further file. The one in work ends with the process, if it takes longer; it is then built another time."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def build(self) -> None:
        """Build what is missing, in the thread of the caller. One file at a time is open, however many there are."""
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
        from mertd.memory.searched_file import SearchedFile
        from mertd.memory.similarity.centre import Centre
        from mertd.memory.similarity.frame import Frame

        centre: Centre | None = None
        found: list[Path] = []
        for path in self._full():
            segment = open_if_there(path)
            if segment is None:
                continue
            with segment:
                part = SearchedFile(segment, space)
                part.refresh(self._check)
                if part.vectors.size and part.statistics.centre.count:
                    centre = Centre(part.vectors.size) if centre is None else centre
                    centre.merge(part.statistics.centre)
                    found.append(path)
        frame: Frame | None = None
        for path in found:
            segment = open_if_there(path)
            if segment is not None and centre is not None:
                with segment:
                    part = SearchedFile(segment, space)
                    part.refresh(self._check)
                    part.ensure_index(centre, self._check, frame)
                    frame = part.frame or frame

    def _full(self) -> list[Path]:
        return [path for path in segments(self._folder) if path.name.endswith(CLOSED_SUFFIX)]

    def _check(self, what: str) -> None:
        if self._stopping:
            raise StoreError(f"stopped before {what}")
        log.info("%s", what)
