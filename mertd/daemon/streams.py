"""All streams of a daemon: told together, asked in turn, and over when the last one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mertd.daemon.audio_stream import Stream
from mertd.daemon.dispatcher import Dispatcher
from mertd.daemon.run_state import RunState
from mertd.errors import SourceError
from mertd.processes.health import Change
from mertd.vocabulary import EventName, StreamState


class Streams(dict[str, Stream]):
    """The streams by name, in the order of the configuration, and what they report to.

    Attributes:
        dispatcher: decides which of them gets the model.
    """

    def __init__(self, state: RunState, exit_at_end: bool, clock_ns: Callable[[], int]) -> None:
        """`exit_at_end`: stop the daemon when all streams are over. `clock_ns`: monotonic nanoseconds."""
        super().__init__()
        self.dispatcher = Dispatcher(self, clock_ns)
        self._state = state
        self._exit_at_end = exit_at_end

    def announce(self, name: EventName, **detail: Any) -> None:
        """Publish an event on every stream."""
        for stream in self.values():
            stream.timeline.event(name, **detail)

    def on_change(self, process: str, change: Change) -> None:
        """Publish the health of a process that all streams need."""
        for stream in self.values():
            stream.on_change(process, change)

    def grant(self) -> None:
        """Let the captures at fast pace go on."""
        for stream in self.values():
            stream.grant()

    # What a stream reports: many do so twenty times a second, so only `check_over` may look at all of them, and rarely far.

    def windows_due(self, stream: str) -> None:
        """Give the model a batch, if it is idle."""
        self.dispatcher.due(stream)

    def answered(self) -> None:
        """Stop the daemon if that was the last window."""
        self.check_over()

    def capture_exited(self) -> None:
        """Give the model what became due, and stop the daemon if that was the last stream."""
        self.dispatcher.dispatch()
        self.check_over()

    def cannot_start(self, message: str, exit_code: int) -> None:
        """Stop the daemon: a source that could not be opened from the start is a mistake."""
        self._state.fail(message, exit_code)

    def on_bug(self, error: BaseException) -> None:
        """Stop the daemon: it must not go on without one of its streams as if nothing had happened."""
        self._state.fail_with(error)

    def check_over(self) -> None:
        """Stop the daemon if all streams are over and their windows are done: if that is wanted, or if any of them failed."""
        if not all(stream.is_over and not stream.timeline.waiting for stream in self.values()):
            return
        failed = [stream for stream in self.values() if stream.state is StreamState.FAILED]
        if failed:
            problems = "; ".join(f"{stream.address.name}: {stream.problem}" for stream in failed)
            self._state.fail(problems, SourceError.exit_code)
        elif self._exit_at_end:
            self._state.stop("all sources have ended")
