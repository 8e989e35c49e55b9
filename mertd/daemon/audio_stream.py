"""One stream's capture process: started, watched, replaced when it fails, and its reports taken to the timeline.

PortAudio's device list is frozen when it starts, it can hang while closing, and some systems never say that a device died. A
new process cures all three, so this is also how a device is found again.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from mertd.capture.address import Address
from mertd.capture.reports import CaptureFailed, CaptureSettings, Committed, Discontinuity, Ended, Grant, Notice, Opened, Stop
from mertd.daemon.timeline import Timeline
from mertd.errors import SourceError
from mertd.processes.child import Inherited
from mertd.processes.health import Bounds, Change
from mertd.processes.managed import Keeper
from mertd.ring import Ring

log = logging.getLogger(__name__)

BOUNDS = Bounds(opening_s=20.0, suspect_s=1.0, silent_s=2.0, ready_s=60.0, proven_s=5.0)
"""It is heard at least ten times a second. What the source itself may take for how long, it judges on its own."""

FINAL_BOUNDS = Bounds(opening_s=60.0, suspect_s=5.0, silent_s=30.0, ready_s=120.0, proven_s=5.0)
"""Of a source that cannot be resumed, so that to kill is to end it: a slow disk must not."""

CLOSING_S = 1.0
"""How long a source may take to close when the daemon stops."""


class Owner(Protocol):
    """The supervisor, as a stream sees it."""

    def heard_more(self, stream: Listening) -> None:
        """Windows of one stream may have become due."""

    def progress(self) -> None:
        """A stream may be over."""

    def cannot_start(self, message: str, exit_code: int) -> None:
        """The stream's source could not be opened the first time."""


class Listening:
    """`state`: opening, listening, lost (to be opened again), paused, ended, failed."""

    def __init__(self, address: Address, realtime: bool, once: bool, ring: Ring, timeline: Timeline, owner: Owner) -> None:
        """`realtime`: at the pace of the audio, rather than of the model. `once`: a source that could be opened again when it
        ends, as a FIFO can, is over all the same.
        """
        self.address, self.timeline, self.state = address, timeline, "opening"
        self.description, self.problem = "", ""
        bounds = BOUNDS if self._resumable else FINAL_BOUNDS
        self.keeper = Keeper(f"capture-{address.name}", "mertd.capture.entry", bounds, self)
        self._realtime, self._once, self._ring, self._owner = realtime, once, ring, owner
        self._outcome: Ended | CaptureFailed | None = None
        self._opened_before = self._resumed = False
        self._granted = 0
        self._paused = False

    def start(self, stdin: Inherited | None = None) -> None:
        """Start a capture process. `stdin`: what to read if the address is `pipe:-`."""
        self._outcome = None
        settings = CaptureSettings(self.address, self._realtime, self.timeline.end, stdin)
        self.timeline.capture_began()
        self.keeper.start(settings, self._ring)
        self.grant()

    @property
    def is_over(self) -> bool:
        return self.state in ("ended", "failed")

    @property
    def process(self) -> dict[str, Any]:
        """For the status. A process that is not wanted is neither well nor ill."""
        return {**self.keeper.facts, "state": self.state} if self.state in ("ended", "paused") else self.keeper.facts

    @property
    def _resumable(self) -> bool:
        """Whether a new process could go on: a file would begin again, and raw PCM from standard input in mid-frame."""
        return self.address.resumable

    def grant(self) -> None:
        """At fast pace, let capture write as far as no window is lost; in real time it writes as the audio comes."""
        if self.keeper.pid and not self._realtime and self.timeline.limit != self._granted:
            self._granted = self.timeline.limit
            self.keeper.send(Grant(self._granted))

    def heard(self, message: Any) -> None:
        """A report of the capture process."""
        match message:
            case Committed():
                if message.end > self.timeline.end or message.gaps:
                    self.keeper.worked()
                self.timeline.committed(message, time.monotonic_ns())
                self._owner.heard_more(self)
            case Opened():
                self._on_opened(message)
            case Discontinuity(_, jump, dropped):
                self.timeline.begin_epoch("clock", jump_ns=jump, dropped=dropped)
            case Notice(event, index, detail):
                self.timeline.event(event, index, **detail)
            case Ended() | CaptureFailed():
                self._outcome = message

    def _on_opened(self, message: Opened) -> None:
        self.state, self.description, self.problem = "listening", message.description, ""
        detail: dict[str, Any] = {"source": str(self.address), "description": message.description, "rate": message.rate}
        if self._resumed:
            self._resumed = False
            self.timeline.begin_epoch("resumed")
            self.timeline.event("resumed", **detail)
        elif self._opened_before:
            self.keeper.restarts += 1
            self.timeline.begin_epoch("restart")
            self.timeline.event("device_back", **detail)
        else:
            self._opened_before = True
            self.timeline.event("started", **detail)
        self.keeper.ready()

    def gone(self, how: str) -> None:
        """The capture process has ended: so has the audio, or it must be started again, or it cannot be."""
        self._granted = 0
        outcome = self._outcome or CaptureFailed(f"capture process {how}", SourceError.exit_code, self._resumable)
        self.timeline.capture_over(isinstance(outcome, Ended), time.monotonic_ns())
        if isinstance(outcome, Ended):
            self._on_ended(outcome)
        elif self._opened_before and outcome.retry and self._resumable:
            if self.state != "lost":
                self.timeline.event("device_lost", message=outcome.message)
            self.state, self.problem = "lost", outcome.message
            self.keeper.died(outcome.message)
        else:
            self.state, self.problem = "failed", outcome.message
            self.keeper.gave_up(outcome.message)
            if self._opened_before:
                self.timeline.event("failed", message=outcome.message)
            else:
                self._owner.cannot_start(outcome.message, outcome.exit_code)
        self._owner.progress()

    def _on_ended(self, outcome: Ended) -> None:
        if outcome.reopens and not self._once:
            self.state, reason = "lost", "the writer has closed the pipe; waiting for the next"
            self.timeline.event("device_lost", message=reason)
            self.keeper.renewed(reason)
            return
        self.state = "ended"
        due = self.timeline.counters["due"]
        if not due:
            log.warning("%s: ended after %.1f s, before the first window was full", self.address.name, self.timeline.seconds)
        self.timeline.event("ended", windows=due)

    def health_changed(self, process: str, change: Change) -> None:
        """Of the keeper: an event of this stream."""
        state, previous = str(change.state), str(change.previous)
        self.timeline.event("health", process=process, state=state, previous=previous, reason=change.reason)

    async def pause(self) -> None:
        """Close the source: nothing hears until `resume`. Raises `ValueError` for what cannot go on where it was."""
        if not self._resumable:
            raise ValueError(f"{self.address} cannot be paused: it would begin again, or in mid-frame")
        if self.state not in ("opening", "listening", "lost"):
            raise ValueError(f"{self.address.name} is {self.state}")
        self.state, self.problem = "paused", ""
        await self.keeper.rest(Stop(), CLOSING_S)
        self.timeline.capture_over(False, time.monotonic_ns())
        self.timeline.event("paused")
        self._paused = True

    def resume(self) -> None:
        """Open the source again. Raises `ValueError` if it is not paused."""
        if self.state != "paused" or not self._paused:
            raise ValueError(f"{self.address.name} is {'about to be paused' if self.state == 'paused' else self.state}")
        self.state, self._paused, self._resumed = "opening", False, self._opened_before
        self.start()

    async def stop(self) -> None:
        """End the capture process: politely first."""
        await self.keeper.stop(Stop(), CLOSING_S)
