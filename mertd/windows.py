"""Which window is due, and what to do when embedding falls behind.

Rules of this file: integers in, integers out. No clock, no I/O, no audio. Sample indexes are absolute within a stream and never
used twice: a new epoch goes on counting where the old one ended. Every window that becomes due leaves exactly once: taken, or
in a `Skip`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Late(StrEnum):
    """What to do with windows that wait while another is being embedded."""

    LATEST = "latest"  # keep the newest, skip the others: for listening live
    QUEUE = "queue"  # keep all, in order, as long as the ring still holds them: for recordings


@dataclass(frozen=True)
class Window:
    """Samples [start, end) of one epoch."""

    epoch: int
    start: int
    end: int


@dataclass(frozen=True)
class Skip:
    """`windows` consecutive due windows, covering [start, end), that will not be embedded."""

    epoch: int
    windows: int
    start: int
    end: int
    reason: str  # "late": newer ones were waiting; "overwritten": the ring no longer holds them


MOST_ASKED = 4
"""Windows of one stream that may wait because somebody asked for them."""


class Schedule:
    """The windows of one stream: of `window` samples, `hop` apart, read from a ring of `capacity` samples."""

    def __init__(self, window: int, hop: int, late: Late, capacity: int) -> None:
        """Raises `ValueError` for a window or hop that is not positive, or a ring too small for a window and a hop."""
        if window <= 0 or hop <= 0:
            raise ValueError(f"window {window} and hop {hop} must be positive")
        if capacity < window + hop:
            raise ValueError(f"a ring of {capacity} samples is too small for a window of {window} and a hop of {hop}")
        self._window, self._hop, self._late, self._capacity = window, hop, late, capacity
        self._due: deque[Window] = deque()
        self._taken: deque[Window] = deque()
        self._epoch, self._start, self._next, self._end = 0, 0, 0, 0
        self._newest: Window | None = None  # that has become due
        self._asked: list[Window] = []  # of those due
        self.due_total = 0

    def begin(self, epoch: int, start: int) -> None:
        """A new epoch starts at sample `start`. Windows already due stay so: the ring still holds them."""
        self._epoch, self._start, self._next, self._end = epoch, start, start, start

    def committed(self, end: int) -> tuple[list[Window], list[Skip]]:
        """Samples up to `end` are in the ring. Returns the windows now due, and those that the ring no longer holds."""
        self._end = max(self._end, end)
        fresh: list[Window] = []
        while self._next + self._window <= self._end:
            window = Window(self._epoch, self._next, self._next + self._window)
            if window != self._newest:  # after a change of the hop, it may be one that was asked for and is due already
                fresh.append(window)
            self._next += self._hop
        self._become_due(fresh)
        lost: list[Window] = []
        while self._due and self._end - self._due[0].start > self._capacity:
            lost.append(self._due.popleft())
        return fresh, _skips(lost, "overwritten")

    def ask(self) -> tuple[Window, bool]:
        """The window that ends with the newest sample, due at once, and whether it was not already. It is not given up for
        later ones. Raises `ValueError` while the epoch has too few samples for one, or `MOST_ASKED` are waiting.
        """
        window = Window(self._epoch, self._end - self._window, self._end)
        if window.start < self._start:
            raise ValueError(f"{self._window - (self._end - self._start)} samples are still missing for a window")
        if window == self._newest:
            return window, False
        self._asked = [window for window in self._asked if window in self._due]
        if len(self._asked) >= MOST_ASKED:
            raise ValueError(f"{MOST_ASKED} windows are waiting already")
        self._become_due([window])
        self._asked.append(window)
        return window, True

    def _become_due(self, windows: list[Window]) -> None:
        self.due_total += len(windows)
        self._due += windows
        self._newest = windows[-1] if windows else self._newest

    def change_hop(self, hop: int) -> None:
        """Let windows start `hop` samples apart from now on; those that this would have made due already are not.

        Raises `ValueError` for a hop that is not positive, or one for which the ring is too small.
        """
        if hop <= 0 or self._window + hop > self._capacity:
            raise ValueError(f"a hop of {hop} samples does not fit: the ring holds {self._capacity}, a window {self._window}")
        if self._next > self._start:  # a window of this epoch has been due
            self._next = max(self._next - self._hop + hop, self._end - self._window)
        self._hop = hop

    def take(self, most: int = 1) -> tuple[list[Window], list[Skip]]:
        """Up to `most` windows to embed now, oldest first, and those given up for them.

        With `Late.LATEST` it is the newest window; with `Late.QUEUE` the oldest ones. Tell `finished` about each of them.
        """
        late: list[Window] = []
        if self._late is Late.LATEST and len(self._due) > 1:
            late = [window for window in self._due if window not in self._asked][:-1]
            self._due = deque(window for window in self._due if window not in late)
        taken = [self._due.popleft() for _ in range(min(most, len(self._due)))]
        self._taken.extend(taken)
        self._asked = [window for window in self._asked if window in self._due]
        return taken, _skips(late, "late")

    def finished(self, window: Window) -> None:
        """A taken window needs the ring no longer."""
        self._taken.remove(window)

    @property
    def waiting(self) -> int:
        """Windows due and not taken."""
        return len(self._due)

    @property
    def limit(self) -> int:
        """First sample that may not be written yet, if no window is to be lost."""
        needed = min((w.start for q in (self._taken, self._due) for w in q), default=self._next)
        return min(needed, self._next) + self._capacity


def _skips(windows: list[Window], reason: str) -> list[Skip]:
    """One `Skip` for each epoch among consecutive windows."""
    skips: list[Skip] = []
    for epoch in dict.fromkeys(w.epoch for w in windows):
        lost = [w for w in windows if w.epoch == epoch]
        skips.append(Skip(epoch, len(lost), lost[0].start, lost[-1].end, reason))
    return skips
