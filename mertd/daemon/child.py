"""The supervisor's end of one child process: start, hear, tell, stop, and notice the end."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Protocol

from mertd.child import run

_SPAWN = multiprocessing.get_context("spawn")


class Listener(Protocol):
    """Whoever owns the child. Both are called in the event loop."""

    def heard(self, message: Any) -> None: ...

    def gone(self, status: int | None) -> None:
        """The process has ended, for whatever reason, with this exit status, and all its messages have been heard."""


class Child:
    """One run of a child process. It is never restarted: the next run is another `Child`."""

    def __init__(self, name: str, module: str, args: tuple[Any, ...], listener: Listener) -> None:
        """Start `main(*args, pipe)` of a module in a spawned process. Call in a running event loop."""
        self.name = name
        self.started = self.last_heard = time.monotonic()
        self._loop, self._listener = asyncio.get_running_loop(), listener
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=run, args=(module, *args, theirs), name=f"mertd-{name}", daemon=True)
        self._ended = asyncio.Event()
        resource_tracker.ensure_running()  # now, because it resets the mask below
        # A child must not die of the signals that stop the daemon, not even before it can say so itself.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            theirs.close()
        threading.Thread(target=self._listen, args=(self._pipe,), name=f"hear-{name}", daemon=True).start()

    def _listen(self, pipe: Connection) -> None:
        """In a thread of its own, so that a child that dies or hangs in mid-message never holds up the supervisor."""
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                break
            self._call(self._hear, message)
        self._process.join()
        self._call(self._end)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon is ending
            self._loop.call_soon_threadsafe(function, *args)

    def _hear(self, message: Any) -> None:
        self.last_heard = time.monotonic()
        self._listener.heard(message)

    def _end(self) -> None:
        self._ended.set()
        self._pipe.close()
        self._listener.gone(self._process.exitcode)

    def send(self, message: Any) -> None:
        """Tell the child; in vain if it is gone, which `gone` then says."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    @property
    def silent_s(self) -> float:
        """Seconds since it was last heard."""
        return time.monotonic() - self.last_heard

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: what the child holds is memory and a device, and the system takes both back."""
        self._process.kill()

    async def ended(self, patience_s: float) -> None:
        """Wait for the end, then insist."""
        try:
            await asyncio.wait_for(self._ended.wait(), patience_s)
        except TimeoutError:
            self.kill()
            await self._ended.wait()
