"""The embed worker: the process that runs the model, given batches of windows.

A GPU's process is given a few at a time, so that the next ones are made ready while one is computed; any other gets one, so
that what it will not compute soon stays due.

The daemon never gives up on its model once it has run: the process is replaced again and again, with growing waits. A backend
whose process crashes `CRASH_LIMIT` times in a row makes way for the next one, if the choice was `auto`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from mertd.embed.messages import Answers, Copied, Failed, ModelInfo, Ready, Request, Trying
from mertd.embed.model_settings import ModelSettings
from mertd.errors import BackendError
from mertd.processes.health import CRASH_LIMIT, Bounds, Change
from mertd.processes.managed import Crashed, GaveUp, ManagedProcess, Renewed, Verdict
from mertd.processes.runs import Spawn, spawner
from mertd.ring import Ring

log = logging.getLogger(__name__)

NAME = "embed"
"""What status, events and logs call the process."""

BOUNDS = Bounds(opening_s=120.0, suspect_s=1.5, silent_s=3.0, ready_s=900.0, proven_s=30.0)
"""It reports twice a second. While it starts, a compiler may hold Python's lock, and so delay its reports, for a minute."""

FIRST_BATCH_S = 600.0
"""Seconds that the first batch of a backend may take: a GPU can hang although the process reports that it is alive."""

MIN_PATIENCE_S = 15.0
"""Seconds that any batch may take: a busy machine must not look broken."""

PATIENCE_FACTOR = 10.0
"""A batch may take as many times the longest of the last ones, per window. A window whose process is killed twice is lost."""

REMEMBERED_BATCHES = 32
"""Batches whose duration is remembered."""

EXIT_S = 1.0
"""Seconds to wait for its end after it was killed."""


class ModelUser(Protocol):
    """What the worker reports to. Everything is called in the event loop."""

    def submitting(self, requests: Sequence[Request]) -> None:
        """A batch is about to be given to the process."""

    def model_ready(self, model: ModelInfo, previous: ModelInfo | None) -> None:
        """The model can embed. `previous`: what did before, if anything."""

    def copied(self, message: Copied) -> None: ...

    def answered(self, message: Answers, model: ModelInfo) -> None: ...

    def model_lost(self) -> None:
        """The process has ended. What it was asked is unanswered."""

    def cannot_start(self, message: str, exit_code: int) -> None:
        """There will be no model."""

    def on_change(self, process: str, change: Change) -> None: ...

    def on_bug(self, error: BaseException) -> None: ...


class EmbedWorker:
    """The role of the embed process.

    Attributes:
        model: what is ready to embed; None while nothing is.
        process: the process that runs it.
    """

    def __init__(self, settings: ModelSettings, rings: Mapping[str, Ring], user: ModelUser, spawn: Spawn | None = None) -> None:
        """`rings`: by stream. `spawn`: starts the process, by default the real one."""
        self.model: Ready | None = None
        self.process = ManagedProcess(NAME, BOUNDS, self, spawn or spawner(NAME, "mertd.embed.process"))
        self._settings = settings
        self._rings = rings
        self._user = user
        self._previous: ModelInfo | None = None
        self._trying = Trying("", ())
        self._failure: Failed | None = None
        self._batches: deque[int] = deque()  # windows of each that is not answered, in the order of their answers
        self._first_since_s = 0.0  # monotonic: when the first of them was given, or the one before it answered
        self._has_answered = False  # whether this run of the process has
        self._seconds: deque[float] = deque(maxlen=REMEMBERED_BATCHES)  # per window

    @property
    def room(self) -> int:
        """How many windows can be given now; 0 while enough is being embedded, or nothing is ready to embed.

        The first batch of a run is alone: if the process died of a batch before, it must be seen of which one.
        """
        if self.model is None or self.process.stopping:
            return 0
        return self.model.max_batch if len(self._batches) < (self.model.batches if self._has_answered else 1) else 0

    def submit(self, requests: list[Request]) -> None:
        """Give one batch. The user's `copied` and `answered` follow, or `model_lost`."""
        self._batches.append(len(requests))
        self._user.submitting(requests)
        if len(self._batches) == 1:
            self._wait_for_first()
        self.process.send(tuple(requests))

    def _wait_for_first(self) -> None:
        """The time of the first batch begins."""
        self._first_since_s = time.monotonic()
        self.process.asked(patience_s(self._seconds, self._batches[0]))

    async def stop(self) -> None:
        """End the process at once: a running inference cannot be interrupted, and there is nothing to save."""
        await self.process.stop(None, EXIT_S)

    # The role

    def arguments(self) -> tuple[Any, ...]:
        """Return what the next run is told."""
        self._failure = None
        self._trying = Trying("", ())
        return self._settings, self._rings

    def on_message(self, message: Any) -> None:
        """Handle a report of the process."""
        match message:
            case Trying():
                self._trying = message
            case Ready():
                self._on_ready(message)
            case Copied():
                self._user.copied(message)
            case Answers():
                self._on_answers(message)
            case Failed():
                self._failure = message

    def _on_ready(self, model: Ready) -> None:
        info, previous = model.info, self._previous
        for name, reason in info.rejected.items():
            log.warning("backend %s is not used: %s", name, reason)
        made_by = info.model
        trained = "" if made_by.trained else ", UNTRAINED weights"
        on = f"{made_by.backend} {info.device} ({made_by.precision}), {info.threads}"
        if info.checked:
            log.info("%s", info.checked)
        log.info("%s ready on %s%s", made_by.name, on, trained)
        if previous is None or previous.model.backend != made_by.backend:
            self._seconds.clear()
        self.model = model
        self._previous = info
        self.process.ready()
        self._user.model_ready(info, previous)

    def _on_answers(self, message: Answers) -> None:
        if self._batches:
            self._seconds.append((time.monotonic() - self._first_since_s) / self._batches.popleft())
        self._has_answered = True
        self.process.worked()
        if self._batches:
            self._wait_for_first()
        if self.model is not None:
            self._user.answered(message, self.model.info)

    def on_exit(self, how: str) -> Verdict:
        """Start another process, or the next backend's; or end the daemon if none was ever ready."""
        self.model = None
        self._batches.clear()
        self._has_answered = False
        failure = self._failure or Failed(f"embed process {how}", BackendError.exit_code)
        others = self._trying.others
        self._user.model_lost()
        if self._previous is None and (self._failure or not others):  # it has said why it cannot start, or nothing else can
            self._user.cannot_start(failure.message, failure.exit_code)
            return GaveUp(failure.message)
        self.process.restarts += 1
        if others and self.process.nth_crash >= CRASH_LIMIT:
            return self._fall_back(failure)
        return Crashed(failure.message)

    def _fall_back(self, failure: Failed) -> Verdict:
        """Give the backend up, and let the next one try."""
        backend = self._trying.backend
        last = failure.message.strip().splitlines()[-1]  # of a traceback, what it was about
        reason = f"its process died {CRASH_LIMIT} times in a row; the last time: {last}"
        self._settings = replace(self._settings, excluded={**self._settings.excluded, backend: reason})
        return Renewed(f"backend {backend} makes way: {reason}", failure.message)

    def on_change(self, process: str, change: Change) -> None:
        """The process serves all streams, so this concerns each of them."""
        self._user.on_change(process, change)

    def on_bug(self, error: BaseException) -> None:
        """Without this process the daemon is useless."""
        self._user.on_bug(error)


def patience_s(seconds: deque[float], windows: int) -> float:
    """Return the seconds that a batch of `windows` may take, given the seconds per window of the batches before it."""
    return max(MIN_PATIENCE_S, PATIENCE_FACTOR * max(seconds) * windows) if seconds else FIRST_BATCH_S
