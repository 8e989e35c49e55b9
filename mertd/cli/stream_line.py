"""What `mertd tail` shows of one stream at a terminal: a line that moves.

Rules of this file: no I/O, no clock. "Now" is the end of the stream's last window, so a replay tells its own time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.cells import set_cell_size

from mertd.cli.evening_strip import FULL_NOVELTY
from mertd.cli.message_format import clock_minute
from mertd.cli.terminal_text import Cell, join_cells, spark
from mertd.memory.changes.detector import MIN_HISTORY, ChangeDetector, NoveltyPoint
from mertd.memory.changes.stream_window import Change, window_of
from mertd.text import printable
from mertd.vocabulary import EventName, StreamState
from mertd.wire import REPLAY_MARK, Embedding, Event

REMEMBERED = 200
"""Values of novelty that are kept: as many as the widest spark line shows."""

FRESH_S = 60.0
"""Seconds for which a change is spoken of as one."""

MAX_NAME = 24
"""Columns of the names of streams."""

MAX_TEXT = 100
"""Characters of a name or a state that are kept."""

NARROW_NAME = 8
"""The same in a narrow terminal."""

NARROW = 40
"""Columns below which names and numbers are shortened."""


class StreamLine:
    """The state of one stream, and its line."""

    def __init__(self, daemon: str, stream: str) -> None:
        self.name = printable(stream, MAX_TEXT)
        self._is_replay = daemon.startswith(REPLAY_MARK)
        self._state = ""
        self._detector: tuple[tuple[str, int], ChangeDetector] | None = None
        self._novelty: deque[float | None] = deque(maxlen=REMEMBERED)
        self._newest: NoveltyPoint | None = None
        self._changed: Change | None = None
        self._began_ns = 0  # where the present sound began, as far as is known
        self._last: Embedding | None = None
        self._silent_dbfs: float | None = None  # level of the last window, if it was below the gate
        self._skipped = 0

    def note_embedding(self, message: Embedding) -> None:
        """Take in a window that was embedded."""
        self._last = message
        self._silent_dbfs = None
        self._skipped += message.skipped
        kind = (message.model.space, message.vector.size)
        if self._detector is None or self._detector[0] != kind:
            self._detector = (kind, ChangeDetector())
            self._began_ns = message.time.start_ns
        detector = self._detector[1]
        for one in detector.feed(window_of(message)):
            if isinstance(one, Change):
                self._changed = one
                self._began_ns = one.time_ns
            else:
                self._novelty.append(None)
                self._began_ns = one.to_ns
        newest = detector.newest
        if newest is not None and newest != self._newest:
            self._novelty.append(newest.novelty)
        self._newest = newest

    def note_event(self, message: Event) -> None:
        """Take in an event of the stream."""
        if message.event == EventName.SILENT:
            level = message.detail.get("rms_dbfs")
            self._silent_dbfs = level if isinstance(level, float) else -float("inf")

    def note_status(self, told: Mapping[str, Any]) -> None:
        """Take in what the daemon's status says of the stream."""
        state = told.get("state")
        self._state = printable(state, MAX_TEXT) if isinstance(state, str) else ""

    @property
    def trouble(self) -> str:
        """A word for what keeps the stream from being heard; nothing if it is."""
        return "" if self._state in ("", StreamState.LISTENING) else self._state

    @property
    def is_untrained(self) -> bool:
        """Whether its vectors mean nothing."""
        return self._last is not None and not self._last.model.trained

    @property
    def is_replay(self) -> bool:
        """Whether it is published from a memory."""
        return self._is_replay

    def text(self, width: int, blocks: str, name_width: int) -> str:
        """Return the line, at most `width` columns wide. `name_width`: columns of the longest name."""
        narrow = width < NARROW
        name_width = min(name_width, NARROW_NAME if narrow else MAX_NAME)
        name = Cell(set_cell_size(self.name, name_width), 0)
        trouble = [Cell(self.trouble, 1)] if self.trouble else []
        if self._last is None and self._silent_dbfs is None:
            return join_cells([name, *(trouble or [Cell("no window yet", 1)])], width)
        level = Cell(self._level(narrow), 1, 5 if narrow else 11)
        novelty = [*self._novelty]
        full = FULL_NOVELTY * (self._newest.variance if self._newest is not None else 1.0)
        line = Cell("", 2, 3 if narrow else 12, lambda columns: spark(novelty, columns, blocks, full))
        skipped = [Cell(f"{self._skipped} skipped", 4)] if self._skipped else []
        return join_cells(
            [name, *trouble, level, Cell(self.change_words(), 3, 20), line, Cell(self._latency(), 5, 11), *skipped], width
        )

    def change_words(self) -> str:
        """Return what the sound does: whether it has changed lately, and for how long it has been the same."""
        last = self._last
        if self._silent_dbfs is not None or last is None:
            return "silent"
        now_ns, changed = last.time.end_ns, self._changed
        if changed is not None and now_ns - changed.time_ns < FRESH_S * 1e9 and changed.time_ns == self._began_ns:
            if changed.like is not None:
                return f"like {clock_minute(changed.like.start_ns)} again"
            return f"changed {duration((now_ns - changed.time_ns) / 1e9)} ago"
        if len(self._novelty) < MIN_HISTORY:
            return "learning"
        return f"steady {duration((now_ns - self._began_ns) / 1e9)}"

    def _level(self, narrow: bool) -> str:
        level = self._silent_dbfs
        if level is None:
            assert self._last is not None
            level = self._last.audio.rms_dbfs
        return f"{level:.0f}dB" if narrow else f"{level:.1f} dBFS"

    def _latency(self) -> str:
        return "" if self._last is None else f"{self._last.latency_ns.total / 1e9:.1f} s late"


def duration(seconds: float) -> str:
    """Return a time in its largest unit: 12 s, 3 min, 2 h."""
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.0f} h"
