"""The windows of one stream on their way through the embed process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mertd.embed.messages import Answer, ModelInfo, Token
from mertd.windows import Window

MAX_ATTEMPTS = 2
"""Times that a window is given to an embed process that dies of it."""


@dataclass
class PendingWindow:
    """A window that was taken from the schedule and is not yet published. Times are monotonic nanoseconds."""

    window: Window
    token: Token
    due_ns: int
    sent_ns: int = 0  # 0: to be sent
    attempts: int = 0
    copied_ns: int | None = None
    overwritten: bool | None = None  # None until capture has reported a time after the copy
    answer: Answer | None = None
    model: ModelInfo | None = None  # what gave the answer

    @property
    def settled(self) -> bool:
        """Whether it is known what becomes of it."""
        return self.answer is not None and self.overwritten is not None


class PendingWindows:
    """Pending windows, oldest first, and when the windows behind them became due."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._by_token: dict[Token, PendingWindow] = {}  # in the order in which they were taken
        self._taken = 0
        self._due_ns: deque[tuple[Window, int]] = deque()

    def __len__(self) -> int:
        return len(self._by_token)

    def __iter__(self) -> Iterator[PendingWindow]:
        return iter(self._by_token.values())

    def get(self, token: Token) -> PendingWindow | None:
        return self._by_token.get(token)

    @property
    def first(self) -> PendingWindow | None:
        return next(iter(self), None)

    @property
    def unsent(self) -> list[PendingWindow]:
        """Windows that must be sent again, because the process that had them died."""
        return [pending for pending in self if not pending.sent_ns]

    @property
    def epochs(self) -> set[int]:
        """Epochs of the windows that are pending or due."""
        return {*(pending.window.epoch for pending in self), *(window.epoch for window, _ in self._due_ns)}

    def became_due(self, windows: Iterable[Window], now_ns: int) -> None:
        """Remember when windows became due, in the order in which they will be taken."""
        self._due_ns += [(window, now_ns) for window in windows]

    def add(self, window: Window) -> PendingWindow:
        """Add a window that was taken. Windows are taken in the order in which they became due; some are left out."""
        while self._due_ns[0][0] != window:
            self._due_ns.popleft()
        token = Token(self._stream, self._taken)
        self._taken += 1
        pending = self._by_token[token] = PendingWindow(window, token, self._due_ns.popleft()[1])
        return pending

    def remove(self, pending: PendingWindow) -> None:
        del self._by_token[pending.token]

    def ask_again(self) -> list[PendingWindow]:
        """The embed process has died: unsend what it did not answer. Return the windows of which it died too often."""
        unanswered = [pending for pending in self if pending.answer is None and pending.sent_ns]
        for pending in unanswered:
            pending.sent_ns = 0
            pending.copied_ns = pending.overwritten = None
        return [pending for pending in unanswered if pending.attempts >= MAX_ATTEMPTS]

    def forget(self, before: int) -> None:
        """Drop the times of due windows that start before sample `before`: they were given up."""
        while self._due_ns and self._due_ns[0][0].start < before:
            self._due_ns.popleft()
