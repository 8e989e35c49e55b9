"""Changes of the streams of a running daemon, found in what is being remembered, in a thread of its own.

It reads what was stored, as `mertd changes` does later, so both find the same. It keeps nothing of its own on the disk: a new
one reads the past again, and goes on behind what the daemon says it has published. So nothing is told twice or lost when the
process is killed between finding a change and telling it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mertd.errors import MertdError
from mertd.memory.changes.detector import DEFAULT_REACH, ChangeDetector, Reach
from mertd.memory.changes.stream_reading import Place, StreamKey, back_from, first_of_run, stream_keys, windows
from mertd.memory.changes.stream_window import Change
from mertd.memory.memory_folder import segments
from mertd.memory.segment_files import number_of
from mertd.text import printable

RETRY_S = 2.0
"""Seconds between two attempts to read."""

PAUSE_S = 0.2
"""Seconds between two looks at what was stored, at least."""

PAUSES_A_LOOK = 19
"""How many times as long as a look the pause behind it is, so that many streams with short hops take a twentieth of a core."""

MAX_PAUSE_S = 5.0
"""Seconds between two looks at what was stored, at most."""

Report = Callable[[StreamKey, list[Change]], object]
"""Is given the changes of a stream that one window made certain."""

log = logging.getLogger(__name__)


class LiveChanges:
    """Finds changes in one run of a daemon until the process ends."""

    def __init__(
        self, folder: Path, boot: bytes, told: Mapping[str, int], report: Report, reach: Reach = DEFAULT_REACH
    ) -> None:
        """`boot`: the run. `told`: by stream, the last window whose changes were published."""
        self._folder = folder
        self._boot = boot
        self._told = told
        self._report, self._reach = report, reach
        self._streams: dict[StreamKey, tuple[ChangeDetector, Place]] = {}
        self._first_file = -1  # where streams that are new may appear
        self._woken = threading.Event()
        self._woken.set()  # what a process that was killed had found, and not told, is in the memory already
        self._hurried = threading.Event()
        self._asked: tuple[Mapping[str, int], Callable[[], object]] | None = None

    def stored(self) -> None:
        """Note that something was stored. May be called from any thread."""
        self._woken.set()

    def when_through(self, ends: Mapping[str, int], then: Callable[[], object]) -> None:
        """Call `then` when all windows below a number, by stream, were looked at. May be called from any thread."""
        self._asked = (ends, then)
        self._hurried.set()
        self._woken.set()

    def run(self) -> None:
        """Look at what is stored, for ever."""
        complaint = ""
        while True:
            self._woken.wait()
            self._woken.clear()
            began_s = time.monotonic()
            try:
                self.catch_up()
                complaint = ""
                self._hurried.wait(min(max(PAUSE_S, PAUSES_A_LOOK * (time.monotonic() - began_s)), MAX_PAUSE_S))
            except MertdError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.error("changes are not found: %s; trying again every %g s", printable(complaint), RETRY_S)
                time.sleep(RETRY_S)
                self._woken.set()

    def catch_up(self) -> None:
        """Look at all windows that were stored since the last time. Raises `StoreError`."""
        asked = self._asked
        files = [number_of(path) for path in segments(self._folder)]
        for key in stream_keys(self._folder, self._boot, self._first_file):
            if key not in self._streams and (begun := self._begin(key)) is not None:
                self._streams[key] = begun
        self._first_file = files[-1] if files else -1
        for key, (detector, place) in self._streams.items():
            for at, window in windows(self._folder, key, place):
                found = detector.feed(window)
                self._streams[key] = (detector, at)
                told = self._told.get(key.stream, -1)
                changes = [one for one in found if isinstance(one, Change) and one.boot == self._boot and one.seq > told]
                if changes:
                    self._report(key, changes)
        if asked is not None and self._is_through(asked[0]):
            self._asked = None
            asked[1]()

    def _begin(self, key: StreamKey) -> tuple[ChangeDetector, Place] | None:
        """Return a detector for a stream, and the place from which it must read to know what was before."""
        first = first_of_run(self._folder, key, self._boot, self._told.get(key.stream, -1))
        if first is None:
            return None
        place, cut_off = back_from(self._folder, key, first, self._reach.past)
        return ChangeDetector(self._reach, cut_off), place

    def _is_through(self, ends: Mapping[str, int]) -> bool:
        through = {key.stream: place.seq + 1 for key, (_, place) in self._streams.items()}
        return all(through.get(stream, 0) >= end for stream, end in ends.items())
