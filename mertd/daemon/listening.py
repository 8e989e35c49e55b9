"""One stream's capture process: started, watched, replaced when it fails, and its reports taken to the timeline.

PortAudio's device list is frozen when it starts, it can hang while closing, and some systems never say that a device died. A
new process cures all three, so this is also how a device is found again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

from mertd.capture.address import Address
from mertd.capture.messages import CaptureSettings, Committed, Discontinuity, Ended, Failed, Grant, Opened, Stop
from mertd.child import Inherited
from mertd.daemon.backoff import Backoff
from mertd.daemon.child import Child
from mertd.daemon.timeline import Timeline
from mertd.errors import SourceError
from mertd.ring import Ring

log = logging.getLogger(__name__)

OPENING_S, HUNG_S, CLOSING_S = 30.0, 5.0, 1.0
"""Without a word for so long, a capture process is taken to hang: while opening its source, later, and while stopping."""


class Owner(Protocol):
    """The supervisor, as a stream sees it."""

    def progress(self) -> None:
        """Windows may have become due."""

    def cannot_start(self, message: str, exit_code: int) -> None:
        """The stream's source could not be opened the first time."""


class Listening:
    """`state`: opening, listening, lost (to be opened again), ended, failed."""

    def __init__(self, address: Address, realtime: bool, once: bool, ring: Ring, timeline: Timeline, owner: Owner) -> None:
        """`realtime`: at the pace of the audio, rather than of the model. `once`: a source that could be opened again when it
        ends, as a FIFO can, is over all the same.
        """
        self.address, self.timeline, self.state = address, timeline, "opening"
        self.description, self.problem, self.restarts = "", "", 0
        self._realtime, self._once, self._ring, self._owner = realtime, once, ring, owner
        self._backoff = Backoff()
        self._retry: asyncio.TimerHandle | None = None
        self._outcome: Ended | Failed | None = None
        self._child: Child | None = None
        self._opened_before = self._stopping = False
        self._granted = 0

    def start(self, stdin: Inherited | None = None) -> None:
        """Start a capture process. `stdin`: what to read if the address is `pipe:-`."""
        self._retry = self._outcome = None
        self._opened = False
        settings = CaptureSettings(self.address, self._realtime, self.timeline.end, stdin)
        self.timeline.capture_began()
        self._child = Child(f"capture-{self.address.name}", "mertd.capture.process", (settings, self._ring), self)
        self.grant()

    @property
    def is_over(self) -> bool:
        return self.state in ("ended", "failed")

    @property
    def _resumable(self) -> bool:
        """Whether a new process could go on: a file would begin again, and raw PCM from standard input in mid-frame."""
        return self.address.kind != "file" and not self.address.is_stdin

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def grant(self) -> None:
        """At fast pace, let capture write as far as no window is lost; in real time it writes as the audio comes."""
        if self._child and not self._realtime and self.timeline.limit != self._granted:
            self._granted = self.timeline.limit
            self._child.send(Grant(self._granted))

    def heard(self, message: Any) -> None:
        """A report of the capture process."""
        match message:
            case Committed():
                if message.end > self.timeline.end or message.gaps:
                    self._backoff.worked()
                self.timeline.committed(message, time.monotonic_ns())
                self._owner.progress()
            case Opened():
                self._on_opened(message)
            case Discontinuity(_, jump):
                log.warning("%s: wall time jumped by %.3f s; a new epoch begins", self.address.name, jump / 1e9)
                self.timeline.begin_epoch("clock", jump_ns=jump)
            case Ended() | Failed():
                self._outcome = message

    def _on_opened(self, message: Opened) -> None:
        self._opened, self.state, self.description, self.problem = True, "listening", message.description, ""
        log.info("%s: listening to %s", self.address.name, message.description)
        detail: dict[str, Any] = {"source": str(self.address), "description": message.description, "rate": message.rate}
        if not self._opened_before:
            self._opened_before = True
            self.timeline.event("started", **detail)
            return
        self.restarts += 1
        self.timeline.begin_epoch("restart")
        self.timeline.event("device_back", **detail)

    def gone(self, status: int | None) -> None:
        """The capture process has ended: so has the audio, or it must be started again, or it cannot be."""
        self._child, self._granted = None, 0
        died = Failed(f"capture process ended unasked (status {status})", SourceError.exit_code, self._resumable)
        outcome = self._outcome or died
        self.timeline.capture_over(isinstance(outcome, Ended), time.monotonic_ns())
        if self._stopping:
            return
        if isinstance(outcome, Ended):
            self._on_ended(outcome)
        elif not self._opened_before:
            self.state, self.problem = "failed", outcome.message
            self._owner.cannot_start(outcome.message, outcome.exit_code)
        elif outcome.retry:
            self._try_again(outcome.message)
        else:
            self.state, self.problem = "failed", outcome.message
            log.error("%s: %s", self.address.name, outcome.message)
            self.timeline.event("failed", message=outcome.message)
        self._owner.progress()

    def _on_ended(self, outcome: Ended) -> None:
        if outcome.reopens and not self._once:
            self.state = "lost"
            self.timeline.event("device_lost", message="the writer has closed the pipe; waiting for the next")
            self.start()
            return
        self.state = "ended"
        due = self.timeline.counters["due"]
        if not due:
            log.warning("%s: ended after %.1f s, before the first window was full", self.address.name, self.timeline.seconds)
        self.timeline.event("ended", windows=due)

    def _try_again(self, message: str) -> None:
        wait = self._backoff.next()
        log.warning("%s: %s; trying again in %.1f s", self.address.name, message, wait)
        if self.state != "lost":
            self.timeline.event("device_lost", message=message)
        self.state, self.problem = "lost", message
        self._retry = asyncio.get_running_loop().call_later(wait, self.start)

    def watch(self) -> None:
        """Called about once a second: replaces a process that hangs."""
        child = self._child
        if child is None or self._stopping:
            return
        if child.silent_s > (HUNG_S if self._opened else OPENING_S):
            message = f"capture process has hung for {child.silent_s:.0f} s"
            self._outcome = Failed(message, SourceError.exit_code, self._resumable)
            child.kill()

    async def stop(self) -> None:
        """End the capture process: politely first."""
        self._stopping = True
        if self._retry:
            self._retry.cancel()
        if self._child:
            self._child.send(Stop())
            await self._child.ended(CLOSING_S)
