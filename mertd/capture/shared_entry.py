"""Entry point of a capture process that several sources share, each recorded in a thread of its own.

For sources without a device: what PortAudio needs a process for, they do not. A source that hangs is abandoned: its thread
stays where it is, and can write no more.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection

from mertd.capture.entry import record
from mertd.capture.recorder import CaptureControl
from mertd.capture.reports import AbandonSource, BeginSource, CaptureFailed, SourceOver
from mertd.processes.child import Outbox, begin
from mertd.ring import Ring

ABANDON_S = 0.5
"""Seconds that a write which has begun may take until the source is abandoned."""


class SharedSources:
    """The sources that are recorded in this process."""

    def __init__(self, rings: Mapping[str, Ring], outbox: Outbox) -> None:
        """`rings`: by stream."""
        self._rings = rings
        self._outbox = outbox
        self._controls: dict[int, CaptureControl] = {}  # of the runs that are not over

    def on_message(self, message: object) -> None:
        """Take a message of the supervisor; called in the listening thread."""
        match message:
            case BeginSource():
                self._begin(message)
            case AbandonSource(run):
                if (control := self._controls.get(run)) and control.abandon(ABANDON_S):
                    self._over(run)
            case (int() as run, order):
                if control := self._controls.get(run):
                    control.on_message(order)

    def _begin(self, message: BeginSource) -> None:
        self._controls[message.run] = CaptureControl()
        thread = threading.Thread(target=self._record, args=(message,), name=message.stream, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system allows no more threads
            self._send(message.run, CaptureFailed(f"no thread for {message.stream}: {error}", 1, retry=True))
            self._over(message.run)

    def _record(self, message: BeginSource) -> None:
        run = message.run
        try:
            ring = self._rings[message.stream]
            record(message.settings, ring, lambda report: self._send(run, report), self._controls[run], close_broken=True)
        finally:
            self._over(run)

    def _send(self, run: int, report: object) -> None:
        if run in self._controls:  # it was not abandoned
            self._outbox.send((run, report))

    def _over(self, run: int) -> None:
        if self._controls.pop(run, None) is not None:  # whichever thread comes first
            self._outbox.send(SourceOver(run))


def main(rings: Mapping[str, Ring], pipe: Connection) -> None:
    """Run the process until the supervisor ends it. `rings`: of all streams that may be recorded here."""
    begin(pipe, SharedSources(rings, Outbox(pipe)).on_message)
    threading.Event().wait()
