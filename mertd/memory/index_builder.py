"""Builds the indexes of full files in the background, in the process that remembers, so that the first search finds them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from mertd.errors import MertdError, StoreError
from mertd.memory.memory import Memory
from mertd.memory.memory_folder import segments
from mertd.memory.segment_files import CLOSED_SUFFIX

JOIN_S = 0.3
"""Seconds to wait for a file that is in work, when all shall stop."""

log = logging.getLogger(__name__)


class IndexBuilder:
    """One thread at a time, for the files that have no index yet. Without USearch it does nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tried: set[Path] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to build what is missing, unless that is being done."""
        if self._thread is not None and self._thread.is_alive():
            return
        full = [path for path in segments(self._folder) if path.name.endswith(CLOSED_SUFFIX) and path not in self._tried]
        self._tried.update(full)
        if any(not list(path.parent.glob(f"{path.name.partition('.')[0]}.*.similar")) for path in full):
            self._thread = threading.Thread(target=self._build, name="index", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Build no further file. The one in work ends with the process, if it takes longer; it is then built another time."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _check(self, what: str) -> None:
        if self._stopping:
            raise StoreError(f"stopped before {what}")
        log.info("%s", what)

    def _build(self) -> None:
        from mertd.memory.similar_search import SimilarSearch, has_index_library  # numpy's search is not needed to remember

        if not has_index_library():
            return
        try:
            for space in Memory(self._folder).spaces():
                search = SimilarSearch(self._folder, space, self._check)
                try:
                    search.describe()
                finally:
                    search.close()
        except (MertdError, OSError) as error:
            if not self._stopping:
                log.warning("an index could not be built, and a search may take longer: %s", error)
