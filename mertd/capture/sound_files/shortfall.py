"""What was noticed while a file was read: audio that could not be read, and advice."""

from __future__ import annotations

from mertd.capture.source import EndReport

MAX_REASONS = 4
"""Most reasons kept of a file: a badly damaged one would give thousands."""


class Findings:
    """Collects what the end report of a file will say."""

    def __init__(self) -> None:
        self._missing_s = 0.0
        self._reasons: list[str] = []
        self._hints: list[str] = []

    def missing(self, seconds: float, reason: str) -> None:
        """Add audio that could not be read: its length in seconds, at least, and why."""
        self._missing_s += max(0.0, seconds)
        if reason not in self._reasons:
            self._reasons.append(reason)

    def hint(self, text: str) -> None:
        """Add advice about audio that was read."""
        if text not in self._hints:
            self._hints.append(text)

    def merge(self, other: Findings) -> None:
        """Add what `other` has collected."""
        self._missing_s += other._missing_s
        self._reasons += [reason for reason in other._reasons if reason not in self._reasons]
        self._hints += [hint for hint in other._hints if hint not in self._hints]

    def report(self) -> EndReport:
        """Return what has been noticed so far."""
        reasons = self._reasons[:MAX_REASONS]
        if len(self._reasons) > MAX_REASONS:
            reasons.append(f"and {len(self._reasons) - MAX_REASONS} more")
        return EndReport(self._missing_s, "; ".join(reasons), tuple(self._hints))
