"""The embed process: started, watched, replaced when it dies, and given one batch of windows at a time.

The daemon never gives up on its model once it has run: the process is replaced for ever, with growing waits. A backend under
which `CRASHES` processes have died in a row makes way for the next one, if the choice was `auto`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from mertd.embed.messages import Answers, Copied, Failed, Ready, Request, Trying
from mertd.embed.settings import ModelSettings
from mertd.errors import BackendError
from mertd.processes.health import CRASHES, Bounds, Change
from mertd.processes.managed import Keeper
from mertd.ring import Ring

log = logging.getLogger(__name__)

BOUNDS = Bounds(opening_s=120.0, suspect_s=1.5, silent_s=3.0, ready_s=900.0, proven_s=30.0)
"""It beats twice a second. While it starts, compiling may hold Python's lock, and so its heart, for a minute."""

FIRST_BATCH_S, BATCH_S, BATCH_FACTOR, REMEMBERED = 600.0, 15.0, 10.0, 32
"""A GPU can hang with the heart beating. A batch may take this long: the first of a backend; any; and, by its size, in
multiples of the longest lately. Ten times, as a window whose process is killed twice is lost: a busy machine must not look
broken.
"""


class Owner(Protocol):
    """The supervisor, as the model sees it."""

    def model_ready(self, model: Ready, previous: Ready | None) -> None: ...

    def copied(self, message: Copied) -> None: ...

    def answered(self, message: Answers, model: Ready) -> None: ...

    def model_lost(self) -> None:
        """The embed process has died; another one is on its way. What it was asked is unanswered."""

    def cannot_start(self, message: str, exit_code: int) -> None: ...

    def health_changed(self, process: str, change: Change) -> None: ...


class Embedding:
    """`model`: what is ready to embed, or None."""

    def __init__(self, settings: ModelSettings, rings: Mapping[str, Ring], owner: Owner) -> None:
        self.model: Ready | None = None
        self.busy = False
        self.keeper = Keeper("embed", "mertd.embed.process", BOUNDS, self)
        self._settings, self._rings, self._owner = settings, rings, owner
        self._previous: Ready | None = None
        self._trying = Trying("", ())
        self._failure: Failed | None = None
        self._batch, self._submitted = 0, 0.0
        self._took: deque[float] = deque(maxlen=REMEMBERED)  # seconds per window

    def start(self) -> None:
        """Start an embed process; `model_ready` follows."""
        self._failure, self._trying, self.busy = None, Trying("", ()), False
        self.keeper.start(self._settings, self._rings)

    @property
    def room(self) -> int:
        """How many windows can be given now; 0 while a batch is being embedded or no model is ready."""
        return 0 if self.model is None or self.busy else self.model.max_batch

    def submit(self, requests: list[Request]) -> None:
        """Give one batch; `copied` and `answered` follow, or `model_lost`."""
        self.busy, self._submitted, self._batch = True, time.monotonic(), len(requests)
        self.keeper.asked(patience(self._took, len(requests)))
        self.keeper.send(tuple(requests))

    def heard(self, message: Any) -> None:
        """A report of the embed process."""
        match message:
            case Trying():
                self._trying = message
            case Ready():
                self._on_ready(message)
            case Copied():
                self._owner.copied(message)
            case Answers():
                self.busy = False
                self._took.append((time.monotonic() - self._submitted) / self._batch)
                self.keeper.worked()
                if self.model is not None:
                    self._owner.answered(message, self.model)
            case Failed():
                self._failure = message

    def _on_ready(self, model: Ready) -> None:
        for name, reason in model.rejected.items():
            log.warning("backend %s is not used: %s", name, reason)
        trained = "" if model.trained else ", UNTRAINED weights"
        log.info("%s ready on %s %s (%s)%s", model.model, model.backend, model.device, model.precision, trained)
        if self._previous is None or self._previous.backend != model.backend:
            self._took.clear()
        self.model, previous, self._previous = model, self._previous, model
        self.keeper.ready()
        self._owner.model_ready(model, previous)

    def gone(self, how: str) -> None:
        """The embed process has ended: start another one, or the next backend's; or end the daemon if none ever ran."""
        self.model, self.busy = None, False
        failure = self._failure or Failed(f"embed process {how}", BackendError.exit_code)
        others = self._trying.others
        self._owner.model_lost()
        if self._previous is None and (self._failure or not others):  # it has said why it cannot start, or nothing else can
            self.keeper.gave_up(failure.message)
            self._owner.cannot_start(failure.message, failure.exit_code)
            return
        self.keeper.restarts += 1
        if others and self.keeper.nth_death >= CRASHES:
            self._fall_back(failure)
        else:
            self.keeper.died(failure.message)

    def _fall_back(self, failure: Failed) -> None:
        """Give the backend up and let the next one try."""
        backend = self._trying.backend
        last = failure.message.strip().splitlines()[-1]  # of a traceback, what it was about
        reason = f"its process died {CRASHES} times in a row; the last time: {last}"
        self._settings = replace(self._settings, excluded={**self._settings.excluded, backend: reason})
        self.keeper.replaced(failure.message, f"backend {backend} makes way: {reason}")

    def health_changed(self, process: str, change: Change) -> None:
        """Of the keeper, to be published on every stream."""
        self._owner.health_changed(process, change)

    async def stop(self) -> None:
        """End the process at once: a running inference cannot be interrupted, and there is nothing to save."""
        await self.keeper.stop(None, 1.0)


def patience(took: deque[float], windows: int) -> float:
    """Seconds that a batch of so many windows may take, given the seconds per window of batches before it."""
    return max(BATCH_S, BATCH_FACTOR * max(took) * windows) if took else FIRST_BATCH_S
