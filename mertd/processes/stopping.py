"""What tells a program that works until it is told to stop."""

from __future__ import annotations

from typing import Protocol


class Stopping(Protocol):
    """Says when to stop, as `threading.Event` does."""

    def is_set(self) -> bool:
        """Return whether to stop."""

    def wait(self, timeout_s: float, /) -> bool:
        """Wait so many seconds, or until it is time to stop. Return whether it is."""
