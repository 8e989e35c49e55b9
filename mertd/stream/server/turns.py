"""Whose turn it is: a queue in which each client has its own line, and the lines are served in rotation.

Rules of this file: no socket, no clock. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items that wait, at most `limit` of them, and at most `limit_per_client` of one client."""

    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._lines: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, client: Hashable, item: T) -> T | None:
        """Queue an item. Gives the one that is left out: this, if its client has too many, or the last of the longest line."""
        line = self._lines.setdefault(client, deque())
        if len(line) >= self._limit_per_client:
            return item
        line.append(item)
        self._count += 1
        if self._count <= self._limit:
            return None
        longest = max(self._lines, key=lambda other: len(self._lines[other]))
        left_out = self._lines[longest].pop()
        self._taken_from(longest)
        return left_out

    def take(self, may_go: Callable[[Hashable], bool]) -> T | None:
        """The next item of the first client in rotation that `may_go`; None if there is none."""
        for client in self._lines:
            if may_go(client):
                item = self._lines[client].popleft()
                self._lines.move_to_end(client)
                self._taken_from(client)
                return item
        return None

    def clients(self) -> list[Hashable]:
        """Those who wait, in rotation."""
        return list(self._lines)

    def _taken_from(self, client: Hashable) -> None:
        self._count -= 1
        if not self._lines[client]:
            del self._lines[client]
