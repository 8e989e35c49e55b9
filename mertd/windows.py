"""Which window is due, and what to do when embedding falls behind.

Rules of this file: integers in, integers out. No clock, no I/O, no audio. Sample indexes are absolute within a stream and never
used twice: a new epoch goes on counting where the old one ended.

**A window becomes due once.** Each window that becomes due starts after all that became due before it, in this epoch or an
earlier one, whether the hop or a client made it due. Both ways lead through `_become_due`, which keeps this order. If a client
asked for a window before the hop came to it, that window takes the place of the hop's.

**A window leaves once.** It is either taken or part of one `Skip`, and is counted once in `due_total`. Among the windows that
are taken, and among those that are skipped for one reason, older ones leave first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

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
    """`windows` consecutive due windows of one epoch, covering [start, end), that will not be embedded.

    No window that became due between the first and the last of them is left out of it, and so no two skips overlap in windows.
    """

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
    next: int  # where the hop's next window starts
    end: int  # of the samples in the ring
    last: int | None = None  # where the hop's latest window started; None before the first


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
        self._due: OrderedDict[Window, int] = OrderedDict()  # with how many had become due before each
        self._taken: deque[Window] = deque()
        self._newest = -1  # start of the latest window that has become due
        self._asked: set[Window] = set()  # windows in `_due` that a client asked for

    def begin(self, epoch: int, start: int) -> None:
        """Begin a new epoch at sample `start`. Windows that are already due stay due: the ring still holds them.

        Raises `ValueError` for an epoch that is not a later one, or a start before the end of the samples so far.
        """
        if epoch <= self._epoch.number or start < self._epoch.end:
            now = self._epoch
            raise ValueError(f"epoch {epoch} cannot begin at sample {start}: epoch {now.number} has come to sample {now.end}")
        self._epoch = _EpochProgress(epoch, start, start, start)

    def committed(self, end: int) -> tuple[list[Window], list[Skip]]:
        """Samples up to `end` are in the ring. Return the windows that are due now, and those that the ring no longer holds."""
        epoch = self._epoch
        epoch.end = max(epoch.end, end)
        fresh: list[Window] = []
        while epoch.next + self._window <= epoch.end:
            if epoch.next > self._newest:  # otherwise a client has asked for it
                fresh.append(Window(epoch.number, epoch.next, epoch.next + self._window))
            epoch.last = epoch.next
            epoch.next += self._hop
        self._become_due(fresh)
        lost: dict[Window, int] = {}
        while self._due and epoch.end - next(iter(self._due)).start > self._capacity:
            window, number = self._due.popitem(last=False)
            lost[window] = number
        self._asked.difference_update(lost)
        return fresh, _skips(lost, SkipReason.OVERWRITTEN)

    def ask(self) -> tuple[Window, bool]:
        """Make the window that ends with the newest sample due. Return it, and whether it was not due before.

        While it waits it is not given up for later ones, even if the hop made it due. A window that became due before and has
        left does not come back.

        Raises `ValueError` while the epoch has too few samples for a window, or if `MAX_ASKED` are waiting.
        """
        epoch = self._epoch
        window = Window(epoch.number, epoch.end - self._window, epoch.end)
        if window.start < epoch.start:
            raise ValueError(f"{self._window - (epoch.end - epoch.start)} samples are still missing for a window")
        fresh = window.start > self._newest
        if window in self._asked or not (fresh or window in self._due):
            return window, False
        if len(self._asked) >= MAX_ASKED:
            raise ValueError(f"{MAX_ASKED} windows are waiting already")
        if fresh:
            self._become_due([window])
        self._asked.add(window)
        return window, fresh

    def _become_due(self, windows: list[Window]) -> None:
        """Let windows become due, each of which starts after all windows before it."""
        for window in windows:
            assert window.start > self._newest, f"{window} is due after one that starts at {self._newest}"
            self._newest = window.start
            self._due[window] = self.due_total
            self.due_total += 1

    def change_hop(self, hop: int) -> None:
        """Let windows start `hop` samples apart from now on, counted from the hop's latest one.

        Windows that the new hop would have made due already are left out, except the one that ends with the newest sample.

        Raises `ValueError` for a hop that is not positive, or one for which the ring is too small.
        """
        if hop <= 0 or self._window + hop > self._capacity:
            raise ValueError(f"a hop of {hop} samples does not fit: the ring holds {self._capacity}, a window {self._window}")
        epoch = self._epoch
        if epoch.last is not None:
            epoch.next = max(epoch.last + hop, epoch.end - self._window)
        self._hop = hop

    def take(self, most: int = 1) -> tuple[list[Window], list[Skip]]:
        """Take up to `most` windows to embed now. Return them, oldest first, and the windows that are skipped for them.

        With `Late.LATEST` it is the newest window; with `Late.QUEUE` the oldest ones. Call `finished` with each of them.
        """
        skips: list[Skip] = []
        if self._late is Late.LATEST and len(self._due) > 1:
            late = [window for window in self._due if window not in self._asked][:-1]
            skips = _skips({window: self._due.pop(window) for window in late}, SkipReason.LATE)
        taken = [self._due.popitem(last=False)[0] for _ in range(min(most, len(self._due)))]
        self._taken.extend(taken)
        self._asked.difference_update(taken)
        return taken, skips

    def finished(self, window: Window) -> None:
        """A taken window no longer needs the ring."""
        self._taken.remove(window)

    @property
    def waiting(self) -> int:
        """Windows due and not taken."""
        return len(self._due)

    @property
    def next_end(self) -> int:
        """First sample behind the window that the hop makes due next."""
        return self._epoch.next + self._window

    @property
    def reach(self) -> int:
        """Samples of a window and a hop, the least that a ring must hold."""
        return self._window + self._hop

    @property
    def limit(self) -> int:
        """First sample that may not be written yet, if no window is to be lost."""
        needed = min((window.start for queue in (self._taken, self._due) for window in queue), default=self._epoch.next)
        return min(needed, self._epoch.next) + self._capacity


def _skips(leaving: Mapping[Window, int], reason: SkipReason) -> list[Skip]:
    """Return one `Skip` for each run of windows that became due one after the other, in one epoch.

    `leaving`: the windows, oldest first, each with how many had become due before it. Between two of them may be one that
    stays, and one that left earlier.
    """
    skips: list[Skip] = []
    numbered = enumerate(leaving.items())
    # within a run the number of a window and its place in `leaving` both grow by one, and their difference stays
    for (epoch, _), run in groupby(numbered, key=lambda item: (item[1][0].epoch, item[1][1] - item[0])):
        lost = [window for _, (window, _) in run]
        skips.append(Skip(epoch, len(lost), lost[0].start, lost[-1].end, reason))
    return skips
