"""Which window is due, and what to do when embedding falls behind.

Rules of this file: integers in, integers out. No clock, no I/O, no audio. Sample indexes are absolute within a stream and never
used twice: a new epoch goes on counting where the old one ended. Every window that becomes due leaves exactly once: taken, or
in a `Skip`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from mertd.vocabulary import SkipReason


class Late(StrEnum):
    """What to do with windows that wait while another is being embedded."""

    LATEST = "latest"  # keep the newest, skip the others: for live audio
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
    reason: SkipReason


MAX_ASKED = 4
"""Windows of one stream that may wait because a client asked for them."""


@dataclass
class _EpochProgress:
    """How far the current epoch has got."""

    number: int
    start: int  # its first sample
    next: int  # where its next window starts
    end: int  # of the samples in the ring


class Schedule:
    """The windows of one stream. Lengths and indexes are samples.

    Attributes:
        due_total: windows that have become due so far.
    """

    def __init__(self, window: int, hop: int, late: Late, capacity: int) -> None:
        """Raises `ValueError` for a window or hop that is not positive, or a ring too small for a window and a hop."""
        if window <= 0 or hop <= 0:
            raise ValueError(f"window {window} and hop {hop} must be positive")
        if capacity < window + hop:
            raise ValueError(f"a ring of {capacity} samples is too small for a window of {window} and a hop of {hop}")
        self.due_total = 0
        self._window = window
        self._hop = hop
        self._late = late
        self._capacity = capacity
        self._epoch = _EpochProgress(0, 0, 0, 0)
        self._due: deque[Window] = deque()
        self._taken: deque[Window] = deque()
        self._newest: Window | None = None  # that has become due
        self._asked: list[Window] = []  # windows in `_due` that a client asked for

    def begin(self, epoch: int, start: int) -> None:
        """Begin a new epoch at sample `start`. Windows that are already due stay due: the ring still holds them."""
        self._epoch = _EpochProgress(epoch, start, start, start)

    def committed(self, end: int) -> tuple[list[Window], list[Skip]]:
        """Samples up to `end` are in the ring. Return the windows that are due now, and those that the ring no longer holds."""
        epoch = self._epoch
        epoch.end = max(epoch.end, end)
        fresh: list[Window] = []
        while epoch.next + self._window <= epoch.end:
            window = Window(epoch.number, epoch.next, epoch.next + self._window)
            if window != self._newest:  # a client may have asked for it, before or after the hop was changed
                fresh.append(window)
            epoch.next += self._hop
        self._become_due(fresh)
        lost: list[Window] = []
        while self._due and epoch.end - self._due[0].start > self._capacity:
            lost.append(self._due.popleft())
        return fresh, _skips(lost, SkipReason.OVERWRITTEN)

    def ask(self) -> tuple[Window, bool]:
        """Make the window that ends with the newest sample due. Return it, and whether it was not due before. It is not given
        up for later ones.

        Raises `ValueError` while the epoch has too few samples for a window, or if `MAX_ASKED` are waiting.
        """
        epoch = self._epoch
        window = Window(epoch.number, epoch.end - self._window, epoch.end)
        if window.start < epoch.start:
            raise ValueError(f"{self._window - (epoch.end - epoch.start)} samples are still missing for a window")
        if window == self._newest:
            return window, False
        self._asked = [window for window in self._asked if window in self._due]
        if len(self._asked) >= MAX_ASKED:
            raise ValueError(f"{MAX_ASKED} windows are waiting already")
        self._become_due([window])
        self._asked.append(window)
        return window, True

    def _become_due(self, windows: list[Window]) -> None:
        self.due_total += len(windows)
        self._due += windows
        self._newest = windows[-1] if windows else self._newest

    def change_hop(self, hop: int) -> None:
        """Let windows start `hop` samples apart from now on; windows that this would have made due already are left out.

        Raises `ValueError` for a hop that is not positive, or one for which the ring is too small.
        """
        if hop <= 0 or self._window + hop > self._capacity:
            raise ValueError(f"a hop of {hop} samples does not fit: the ring holds {self._capacity}, a window {self._window}")
        epoch = self._epoch
        if epoch.next > epoch.start:  # a window of this epoch has been due
            epoch.next = max(epoch.next - self._hop + hop, epoch.end - self._window)
        self._hop = hop

    def take(self, most: int = 1) -> tuple[list[Window], list[Skip]]:
        """Take up to `most` windows to embed now. Return them, oldest first, and the windows that are skipped for them.

        With `Late.LATEST` it is the newest window; with `Late.QUEUE` the oldest ones. Call `finished` with each of them.
        """
        late: list[Window] = []
        if self._late is Late.LATEST and len(self._due) > 1:
            late = [window for window in self._due if window not in self._asked][:-1]
            self._due = deque(window for window in self._due if window not in late)
        taken = [self._due.popleft() for _ in range(min(most, len(self._due)))]
        self._taken.extend(taken)
        self._asked = [window for window in self._asked if window in self._due]
        return taken, _skips(late, SkipReason.LATE)

    def finished(self, window: Window) -> None:
        """A taken window no longer needs the ring."""
        self._taken.remove(window)

    @property
    def waiting(self) -> int:
        """Windows due and not taken."""
        return len(self._due)

    @property
    def limit(self) -> int:
        """First sample that may not be written yet, if no window is to be lost."""
        needed = min((window.start for queue in (self._taken, self._due) for window in queue), default=self._epoch.next)
        return min(needed, self._epoch.next) + self._capacity


def _skips(windows: list[Window], reason: SkipReason) -> list[Skip]:
    """Return one `Skip` for each epoch among consecutive windows."""
    skips: list[Skip] = []
    for epoch in dict.fromkeys(window.epoch for window in windows):
        lost = [window for window in windows if window.epoch == epoch]
        skips.append(Skip(epoch, len(lost), lost[0].start, lost[-1].end, reason))
    return skips
