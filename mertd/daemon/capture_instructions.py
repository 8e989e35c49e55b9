"""What a capture process is told while it records: how far it may write, and when a report is needed."""

from __future__ import annotations

from mertd.capture.reports import MAX_UNREPORTED_SAMPLES, Grant, NextDue
from mertd.daemon.timeline import Timeline
from mertd.processes.managed import ManagedProcess

FAR_SAMPLES = 2 * MAX_UNREPORTED_SAMPLES
"""Samples before the end of the next window from which on it is nearly due, and capture reports every block."""


class CaptureInstructions:
    """What the capture process of one stream was told, and what it must be told next."""

    def __init__(self, process: ManagedProcess, timeline: Timeline, realtime: bool, rare_reports: bool) -> None:
        """`realtime`: it writes as the audio comes. `rare_reports`: it reports rarely while no window is nearly due."""
        self._process = process
        self._timeline = timeline
        self._realtime = realtime
        self._rare_reports = realtime and rare_reports
        self._granted = 0
        self._next_due = 0

    def forget(self) -> None:
        """The next process knows nothing yet."""
        self._granted = self._next_due = 0

    def grant(self) -> None:
        """At fast pace, let capture write as far as no window is lost; in real time it writes as the audio comes."""
        if not self._realtime and self._process.pid and self._timeline.limit != self._granted:
            self._granted = self._timeline.limit
            self._process.send(Grant(self._granted))

    def tell_next_due(self) -> None:
        """Let capture report rarely until the next window is due, if that is far away."""
        timeline = self._timeline
        due = timeline.next_end
        if not self._rare_reports or due == self._next_due:
            return
        is_far = timeline.is_roomy and due - timeline.end >= FAR_SAMPLES
        if is_far or due < self._next_due:  # otherwise it reports every block behind the window before
            self._next_due = due
            self._process.send(NextDue(due if is_far else 0))
