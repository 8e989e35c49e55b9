"""One stream: the capture process of a source, and what its reports mean for the timeline.

PortAudio reads the list of devices only when it starts, it can hang while it closes one, and some systems never report that a
device is gone. A new process cures all three, so restarting it is also how a device is found again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

from mertd.capture.address import Address
from mertd.capture.reports import (
    CaptureFailed,
    CaptureSettings,
    Committed,
    Discontinuity,
    Ended,
    Notice,
    Opened,
    Stop,
)
from mertd.daemon.capture_instructions import CaptureInstructions
from mertd.daemon.timeline import Timeline
from mertd.embed.messages import Answer, ModelInfo, Request, Token
from mertd.errors import SourceError
from mertd.processes.child import Inherited
from mertd.processes.health import Bounds, Change
from mertd.processes.managed import Crashed, Finished, GaveUp, ManagedProcess, Renewed, Verdict
from mertd.processes.runs import Spawn, spawner
from mertd.ring import Ring
from mertd.vocabulary import EpochReason, EventName, StreamState

log = logging.getLogger(__name__)

BOUNDS = Bounds(opening_s=20.0, suspect_s=1.0, silent_s=2.0, ready_s=60.0, proven_s=5.0)
"""It reports at least twice a second. How long the source itself may take for what, the process decides on its own."""

FINAL_BOUNDS = Bounds(opening_s=60.0, suspect_s=5.0, silent_s=30.0, ready_s=120.0, proven_s=5.0)
"""For a source that cannot be resumed, so that killing its process ends it: a slow disk must not have that effect."""

CLOSING_S = 1.0
"""Seconds that a source may take to close before its process is killed."""


class StreamHost(Protocol):
    """What a stream reports to. Everything is called in the event loop."""

    def windows_due(self, stream: str) -> None:
        """Windows of this stream are due."""

    def capture_exited(self) -> None:
        """The capture process of a stream has ended; the stream may be over."""

    def answered(self) -> None:
        """A window of a stream was answered; the stream may be over."""

    def cannot_start(self, message: str, exit_code: int) -> None:
        """The source of a stream could not be opened the first time."""

    def on_bug(self, error: BaseException) -> None:
        """A capture process is no longer managed."""


@dataclass(frozen=True)
class StreamOptions:
    """How a source is read."""

    realtime: bool  # at the pace of the audio, not of the model
    once: bool  # a source that could be opened again when it ends, as a FIFO can, is over all the same
    rare_reports: bool = False  # capture reports rarely while no window is nearly due, because there are many streams
    stdin: Inherited | None = None  # what to read if the address is `pipe:-`


class Stream:
    """A named audio source of the daemon, and the role of its capture process.

    Attributes:
        state: what the stream is doing.
        description: what was opened, in words.
        problem: why it is lost or failed; else empty.
        process: its capture process.
    """

    def __init__(
        self,
        address: Address,
        options: StreamOptions,
        ring: Ring,
        timeline: Timeline,
        host: StreamHost,
        spawn: Spawn | None = None,
    ) -> None:
        """`spawn`: starts the capture process, by default the real one."""
        self.address = address
        self.timeline = timeline
        self.state = StreamState.OPENING
        self.description = ""
        self.problem = ""
        name = f"capture-{address.name}"
        bounds = BOUNDS if address.resumable else FINAL_BOUNDS
        self.process = ManagedProcess(name, bounds, self, spawn or spawner(name, "mertd.capture.entry"))
        self._options = options
        self._ring = ring
        self._host = host
        self._outcome: Ended | CaptureFailed | None = None  # how the process said that it would end
        self._next_epoch: EpochReason | None = None  # what the next opening begins; None for the very first
        self._instructions = CaptureInstructions(self.process, timeline, options.realtime, options.rare_reports)

    # Life

    def start(self) -> None:
        """Open the source, in a capture process of its own."""
        self.process.start()

    async def pause(self) -> None:
        """Close the source until `resume`. Raises `ValueError` for a source that cannot go on where it was."""
        if not self.address.resumable:
            raise ValueError(f"{self.address} cannot be paused: it would start over, or in the middle of a frame")
        if self.state not in (StreamState.OPENING, StreamState.LISTENING, StreamState.LOST):
            raise ValueError(f"{self.address.name} is {self.state}")
        self.state = StreamState.PAUSED
        self.problem = ""
        await self.process.stop(Stop(), CLOSING_S)
        self.timeline.capture_over(False, time.monotonic_ns())
        self.timeline.event(EventName.PAUSED)

    def resume(self) -> None:
        """Open the source again. Raises `ValueError` if it is not paused."""
        if self.state is not StreamState.PAUSED or not self.process.stopped:
            state = "about to be paused" if self.state is StreamState.PAUSED else self.state
            raise ValueError(f"{self.address.name} is {state}")
        self.state = StreamState.OPENING
        if self._next_epoch is not None:
            self._next_epoch = EpochReason.RESUMED
        self.start()

    async def stop(self) -> None:
        """Ask the capture process to end, and kill it if it does not."""
        await self.process.stop(Stop(), CLOSING_S)

    # What it looks like from outside

    @property
    def is_over(self) -> bool:
        """Whether no more audio will come."""
        return self.state in (StreamState.ENDED, StreamState.FAILED)

    @property
    def status(self) -> dict[str, Any]:
        """What the status says about the stream."""
        return {
            "state": self.state.value,
            "source": str(self.address),
            "description": self.description,
            "problem": self.problem,
            "restarts": self.process.restarts,
            **self.timeline.counters,
            "skips": self.timeline.skips,
        }

    @property
    def process_status(self) -> dict[str, Any]:
        """What the status says about its process. While none is needed, this is neither healthy nor unhealthy."""
        if self.state in (StreamState.ENDED, StreamState.PAUSED):
            return {**self.process.as_dict, "state": self.state.value}
        return self.process.as_dict

    # What the dispatcher asks

    @property
    def due(self) -> bool:
        """Whether there are windows that the model could be given."""
        return self.timeline.due

    def take(self, most: int, now_ns: int) -> list[Request]:
        """Return requests for up to `most` windows."""
        return self.timeline.take(most, now_ns)

    def copied(self, token: Token, at_ns: int) -> None:
        """A window is out of the ring since `at_ns`."""
        self.timeline.copied(token, at_ns, self.process.receive())

    def answered(self, answer: Answer, model: ModelInfo, now_ns: int) -> None:
        """A window was embedded, or refused."""
        self.timeline.answered(answer, model, now_ns)
        self.grant()
        self._host.answered()

    def embed_lost(self) -> None:
        """The embed process has died."""
        self.timeline.embed_lost()
        self.grant()

    def grant(self) -> None:
        """Let capture go on, if it waits for that."""
        self._instructions.grant()

    # The role

    def arguments(self) -> tuple[Any, ...]:
        """Return what the next run is told."""
        self._outcome = None
        self._instructions.forget()
        self.timeline.capture_began()
        settings = CaptureSettings(self.address, self._options.realtime, self.timeline.end, self._options.stdin)
        return settings, self._ring

    def on_message(self, message: Any) -> None:
        """Handle a report of the capture process."""
        match message:
            case Committed():
                if message.end > self.timeline.end or message.gaps:
                    self.process.worked()
                self.timeline.committed(message, time.monotonic_ns())
                if self.timeline.due:
                    self._host.windows_due(self.address.name)
                self.grant()
                self._instructions.tell_next_due()
            case Opened():
                self._on_opened(message)
            case Discontinuity(_, jump_ns, dropped):
                self.timeline.begin_epoch(EpochReason.CLOCK, jump_ns=jump_ns, dropped=dropped)
            case Notice(event, index, detail):
                self.timeline.event(event, index, **detail)
            case Ended() | CaptureFailed():
                self._outcome = message

    def _on_opened(self, message: Opened) -> None:
        self.state = StreamState.LISTENING
        self.description = message.description
        self.problem = ""
        event = EventName.STARTED
        if self._next_epoch is not None:
            self.timeline.begin_epoch(self._next_epoch)
            event = EventName.RESUMED if self._next_epoch is EpochReason.RESUMED else EventName.DEVICE_BACK
        if event is EventName.DEVICE_BACK:
            self.process.restarts += 1
        self._next_epoch = EpochReason.RESTART
        self.timeline.event(event, source=str(self.address), description=message.description, rate=message.rate)
        self.process.ready()
        self.grant()

    def on_exit(self, how: str) -> Verdict:
        """The audio is over, or the source must be opened again, or it cannot be."""
        outcome = self._outcome or CaptureFailed(f"capture process {how}", SourceError.exit_code, self.address.resumable)
        self.timeline.capture_over(isinstance(outcome, Ended), time.monotonic_ns())
        verdict = self._on_ended(outcome) if isinstance(outcome, Ended) else self._on_failed(outcome)
        self._host.capture_exited()
        return verdict

    def _on_ended(self, outcome: Ended) -> Verdict:
        if outcome.reopens and not self._options.once:
            self.state = StreamState.LOST
            reason = "the writer has closed the pipe; waiting for the next"
            self.timeline.event(EventName.DEVICE_LOST, message=reason)
            return Renewed(reason)
        self.state = StreamState.ENDED
        due = self.timeline.counters["due"]
        if not due:
            log.warning("%s: ended after %.1f s, before the first window was full", self.address.name, self.timeline.seconds)
        report = outcome.report
        detail: dict[str, Any] = {}
        for hint in report.hints:
            log.warning("%s: %s", self.address.name, hint)
        if report.reason:
            log.warning("%s: %s", self.address.name, report)
            detail = {"missing_s": round(report.missing_s, 3), "reason": report.reason}
        self.timeline.event(EventName.ENDED, windows=due, **detail)
        return Finished()

    def _on_failed(self, outcome: CaptureFailed) -> Verdict:
        self.problem = outcome.message
        if self._next_epoch is not None and outcome.retry and self.address.resumable:
            if self.state is not StreamState.LOST:
                self.timeline.event(EventName.DEVICE_LOST, message=outcome.message)
            self.state = StreamState.LOST
            return Crashed(outcome.message)
        self.state = StreamState.FAILED
        if self._next_epoch is not None:
            self.timeline.event(EventName.FAILED, message=outcome.message)
        else:
            self._host.cannot_start(outcome.message, outcome.exit_code)
        return GaveUp(outcome.message)

    def on_change(self, process: str, change: Change) -> None:
        """The health of a process that the stream needs has changed, of its own or of the model's."""
        detail: dict[str, Any] = {"state": change.state.value, "previous": change.previous.value, "reason": change.reason}
        self.timeline.event(EventName.HEALTH, process=process, **detail)

    def on_bug(self, error: BaseException) -> None:
        """Without its process the stream is lost in silence, which must not be."""
        self._host.on_bug(error)
