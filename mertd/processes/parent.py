"""The parent's side of one run of a child process: start it, receive from it, send to it, and notice its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from mertd.processes.child import Inherited, run

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")

KEPT_LINES = 5
"""Lines of a child's standard error that are kept to explain its end."""

MAX_LINE = 500
"""Characters of each of these lines; a longer one is split."""

LAST_LINES_S = 0.2
"""Seconds to wait for the last lines of a dead child. A process that it started may keep its standard error open for ever."""

SIGNAL_MEANINGS = {
    signal.SIGKILL: "killed by the system because memory ran out, or by another program",
    signal.SIGSEGV: "a native library accessed memory that it does not own",
    signal.SIGABRT: "a native library aborted",
    signal.SIGBUS: "memory could not be provided, or a mapped file was truncated",
    signal.SIGILL: "a native library was built for another processor",
}


class ChildProcess:
    """One run of a child process. It is never restarted: the next run is another `ChildProcess`.

    Attributes:
        name: what logs call it.
        last_heard: monotonic seconds of its last message. The thread that receives it sets this, so that a busy event loop
            does not make the child look silent.
    """

    def __init__(self, name: str, module: str, args: tuple[Any, ...], on_message: Callable[[Any], None]) -> None:
        """Start `main(*args, pipe)` of `module` in a spawned process. Call in a running event loop, which then calls
        `on_message` with every message.

        Raises `OSError` if there are no descriptors, processes, threads or memory left; nothing of the attempt then remains.
        """
        self.name = name
        self.last_heard = time.monotonic()
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[str] = self._loop.create_future()
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        # `ours` is closed if the process cannot be started, `theirs` in any case.
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self._pipe, their_pipe = _SPAWN.Pipe()
            ours.callback(self._pipe.close)
            theirs.callback(their_pipe.close)
            stderr, their_stderr = os.pipe()
            theirs.callback(os.close, their_stderr)
            with contextlib.ExitStack() as unread:
                unread.callback(os.close, stderr)
                self._stderr_thread = _start_thread(f"stderr-{name}", self._read_stderr, stderr)
                unread.pop_all()  # the thread closes it
            arguments = (module, Inherited(their_stderr), *args, their_pipe)
            self._process = _SPAWN.Process(target=run, args=arguments, name=f"mertd-{name}", daemon=True)
            self._start_process()
            try:
                _start_thread(f"receive-{name}", self._receive, self._pipe)
            except OSError:
                self._process.kill()
                self._process.join()
                raise
            ours.pop_all()

    def _start_process(self) -> None:
        resource_tracker.ensure_running()  # now, because it would reset the signal mask below
        # The child must not be ended by the signals that stop the daemon, not even before it can ignore them itself.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _receive(self, pipe: Connection) -> None:
        """Pass on every message. This is a thread because a child that dies or hangs in mid-message must not block the loop."""
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                break
            self.last_heard = time.monotonic()
            self._call_in_loop(self._on_message, message)
        self._process.join()
        self._stderr_thread.join(LAST_LINES_S)
        self._call_in_loop(self._finish)

    def _read_stderr(self, descriptor: int) -> None:
        """Log what the child writes to standard error, and keep the last lines."""
        with open(descriptor, encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(MAX_LINE):
                if text := line.strip():
                    self._last_lines.append(text)
                    log.info("%s says: %s", self.name, text)

    def _call_in_loop(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon is ending
            self._loop.call_soon_threadsafe(function, *args)

    def _finish(self) -> None:
        self._pipe.close()
        status = self._process.exitcode
        # A killed process could not explain its end; what it wrote before has nothing to do with it.
        lines = " | ".join(self._last_lines) if status not in (0, -signal.SIGKILL) else ""
        if not self._exit.done():
            self._exit.set_result(describe_exit(status) + (f"; its last output: {lines}" if lines else ""))

    def send(self, message: Any) -> None:
        """Send a message to the child. Does nothing if it is gone, which `exited` then reports."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL: the child holds nothing but memory and a device, and the system takes both back."""
        self._process.kill()

    async def exited(self, patience_s: float | None = None) -> str:
        """Wait until the process has ended and all its messages were passed on. Return how it ended, in words.

        `patience_s`: seconds after which it is killed; None for never.
        """
        if patience_s is not None:
            await asyncio.wait([self._exit], timeout=patience_s)
            if not self._exit.done():
                self.kill()
        return await asyncio.shield(self._exit)


def describe_exit(status: int | None) -> str:
    """Return in words how a process ended, given its exit status as `multiprocessing` has it: negative for a signal."""
    if status is None or status >= 0:
        return f"ended unexpectedly with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"was ended by signal {-status}"
    meaning = SIGNAL_MEANINGS.get(number)
    return f"was ended by {number.name}" + (f" ({meaning})" if meaning else "")


def _start_thread(name: str, target: Callable[[Any], None], argument: object) -> threading.Thread:
    """Start a daemon thread. Raises `OSError` if the system allows no more threads."""
    thread = threading.Thread(target=target, args=(argument,), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return thread
