"""How long to wait before trying again."""

from __future__ import annotations


class Backoff:
    """Doubling waits, from `first_s` up to `most_s`, until something has worked."""

    def __init__(self, first_s: float = 0.5, most_s: float = 30.0) -> None:
        self._first, self._most = first_s, most_s
        self.failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        wait = min(self._first * 2.0 ** min(self.failures, 60), self._most)
        self.failures += 1
        return wait

    def worked(self) -> None:
        """Start over."""
        self.failures = 0
