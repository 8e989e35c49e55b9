"""The embed process: started, watched, replaced when it dies, and given one batch of windows at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from mertd.daemon.backoff import Backoff
from mertd.daemon.child import Child
from mertd.embed.messages import Answers, Copied, Failed, Ready, Request
from mertd.embed.settings import ModelSettings
from mertd.errors import BackendError
from mertd.ring import Ring

log = logging.getLogger(__name__)

HUNG_S = 20.0
"""Without a heartbeat for so long, the process is taken to hang."""

FIRST_BATCH_S, BATCH_S, BATCH_FACTOR = 600.0, 60.0, 20
"""A batch may take this long: the first one, any, and any in multiples of the longest so far. A GPU can hang, heart beating."""

GIVE_UP = 5
"""Deaths in a row, without an answer in between, after which the daemon gives up."""


class Owner(Protocol):
    """The supervisor, as the model sees it."""

    def model_ready(self, model: Ready, previous: Ready | None) -> None: ...

    def copied(self, message: Copied) -> None: ...

    def answered(self, message: Answers, model: Ready) -> None: ...

    def model_lost(self) -> None:
        """The embed process has died; another one is on its way. What it was asked is unanswered."""

    def cannot_start(self, message: str, exit_code: int) -> None: ...


class Embedding:
    """`model`: what is ready to embed, or None."""

    def __init__(self, settings: ModelSettings, rings: Mapping[str, Ring], owner: Owner) -> None:
        self.model: Ready | None = None
        self.restarts, self.busy = 0, False
        self._settings, self._rings, self._owner = settings, rings, owner
        self._previous: Ready | None = None
        self._backoff = Backoff()
        self._retry: asyncio.TimerHandle | None = None
        self._child: Child | None = None
        self._stopping = False
        self._failure: Failed | None = None
        self._longest_s = 0.0

    def start(self) -> None:
        """Start an embed process; `model_ready` follows."""
        self._retry, self._failure, self.busy = None, None, False
        self._child = Child("embed", "mertd.embed.process", (self._settings, self._rings), self)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def idle(self) -> bool:
        """Whether a batch can be given now."""
        return self.model is not None and not self.busy

    def submit(self, requests: list[Request]) -> None:
        """Give one batch; `copied` and `answered` follow, or `model_lost`."""
        if self._child is None:
            raise RuntimeError("no embed process to give a batch to")
        self.busy, self._submitted = True, time.monotonic()
        self._child.send(tuple(requests))

    def heard(self, message: Any) -> None:
        """A report of the embed process."""
        match message:
            case Ready():
                for name, reason in message.rejected.items():
                    log.warning("backend %s is not used: %s", name, reason)
                trained = "" if message.trained else ", UNTRAINED weights"
                log.info("%s ready on %s %s (%s)%s", message.model, message.backend, message.device, message.precision, trained)
                self.model, previous, self._previous = message, self._previous, message
                self._owner.model_ready(message, previous)
            case Copied():
                self._owner.copied(message)
            case Answers():
                self.busy = False
                self._longest_s = max(self._longest_s, time.monotonic() - self._submitted)
                self._backoff.worked()
                if self.model is not None:
                    self._owner.answered(message, self.model)
            case Failed():
                self._failure = message

    def gone(self, status: int | None) -> None:
        """The embed process has ended: start another one, or give up."""
        self._child, self.model, self.busy = None, None, False
        if self._stopping:
            return
        failure = self._failure or Failed(f"embed process ended unasked (status {status})", BackendError.exit_code)
        if self._previous is None or self._backoff.failures >= GIVE_UP:
            self._owner.cannot_start(failure.message, failure.exit_code)
            return
        wait = self._backoff.next()
        log.error("%s; starting another one in %.1f s", failure.message, wait)
        self.restarts += 1
        self._owner.model_lost()
        self._retry = asyncio.get_running_loop().call_later(wait, self.start)

    def watch(self) -> None:
        """Called about once a second: replaces a process that hangs."""
        child = self._child
        if child is None or self._stopping:
            return
        if child.silent_s > HUNG_S:
            self._failure = Failed(f"embed process has hung for {child.silent_s:.0f} s", BackendError.exit_code)
            child.kill()
        elif self.busy and (took := time.monotonic() - self._submitted) > self._patience():
            self._failure = Failed(f"embed process has not answered for {took:.0f} s", BackendError.exit_code)
            child.kill()

    def _patience(self) -> float:
        return max(BATCH_S, BATCH_FACTOR * self._longest_s) if self._longest_s else FIRST_BATCH_S

    async def stop(self) -> None:
        """End the process at once: a running inference cannot be interrupted, and there is nothing to save."""
        self._stopping = True
        if self._retry:
            self._retry.cancel()
        if self._child:
            self._child.kill()
            await self._child.ended(1.0)
