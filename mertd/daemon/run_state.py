"""Where a run of the daemon stands: its phase, and how and why it ends."""

from __future__ import annotations

import asyncio

from mertd.errors import MertdError
from mertd.vocabulary import Phase


class StartError(MertdError):
    """The daemon could not start or cannot go on. It carries the exit code of what stopped it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(*message.splitlines() if exit_code == 1 else [message])  # several lines only of a bug's traceback
        self.exit_code = exit_code  # type: ignore[misc]


class RunState:
    """One run of the daemon.

    Attributes:
        phase: what it is doing.
        reason: why it stops.
        failure: what made it stop, if that was an error; the first one counts.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.reason = "asked to"
        self.failure: BaseException | None = None
        self._stop = asyncio.Event()

    def stop(self, reason: str | None = None) -> None:
        """Ask the daemon to stop. `reason`: why, in words; None if a signal says so."""
        if reason is not None and self.failure is None:
            self.reason = reason
        self._stop.set()

    def fail(self, message: str, exit_code: int) -> None:
        """Stop with an error: a part without which the daemon is useless has failed."""
        self.fail_with(StartError(message, exit_code))

    def fail_with(self, error: BaseException) -> None:
        """Stop with this error, unless there was one before."""
        if self.failure is None:
            self.failure = error
            self.reason = "failed"
        self._stop.set()

    @property
    def stop_asked(self) -> bool:
        return self._stop.is_set()

    async def wait_for_stop(self) -> None:
        """Wait until the daemon is asked to stop, or has failed."""
        await self._stop.wait()
