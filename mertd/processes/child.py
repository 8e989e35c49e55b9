"""The child's side of a child process: how it starts, and its end of the pipe to the supervisor.

A child ignores the signals that stop the daemon: the supervisor gets them too, and stops its children in order. A child ends
when the supervisor tells it to or is gone, whatever it is doing at that moment.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

READY = "ready"
"""What a process beside the daemon sends when it is ready, and every few seconds afterwards."""

REPORT_S = 1.0
"""Seconds between two of these, at least."""

EXIT_PARENT_GONE = 70
"""Exit status of a child whose supervisor is gone."""

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl(2): sets the signal that a process gets when its parent dies."""


class Inherited:
    """A file descriptor that a child inherits when it is spawned."""

    def __init__(self, descriptor: int) -> None:
        self._dup: Any = descriptor

    def detach(self) -> int:
        """Return the descriptor, as it is numbered in this process."""
        return self._dup if isinstance(self._dup, int) else int(self._dup.detach())

    def __getstate__(self) -> dict[str, Any]:
        return {"_dup": reduction.DupFd(self._dup)}


def run(module: str, stderr: Inherited, *args: Any) -> None:
    """Run `main(*args)` of `module`: the target of every child process. The module is given by name, so that the supervisor
    never loads the libraries of a child.

    `stderr`: becomes standard error, so that the supervisor gets what native libraries print, above all before they abort.
    """
    _die_with_parent()
    descriptor = stderr.detach()
    os.dup2(descriptor, 2)
    os.close(descriptor)
    importlib.import_module(module).main(*args)


def _die_with_parent() -> None:
    """On Linux, let the system kill this process when the supervisor ends, even if it is stopped or hangs in native code.

    Linux ties this to the *thread* that started the process, so the supervisor starts its children in the thread of its event
    loop, which lives as long as the supervisor. On other systems only the end of the pipe tells (see `begin`).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it has already died
            os._exit(EXIT_PARENT_GONE)


def begin(pipe: Connection, on_message: Callable[[Any], None]) -> None:
    """Ignore the signals of a terminal, and pass every message from the supervisor to `on_message`. A child calls this first.

    `on_message` runs in a thread of its own. When the supervisor is gone the process exits at once: nothing needs to be cleaned
    up, and a native call may be blocking the main thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def listen() -> None:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                os._exit(EXIT_PARENT_GONE)
            on_message(message)

    threading.Thread(target=listen, name="supervisor", daemon=True).start()


class Outbox:
    """Sends messages to the supervisor, from any thread."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message. Exits the process if the supervisor is gone."""
        with self._lock:
            try:
                self._pipe.send(message)
            except OSError:
                os._exit(EXIT_PARENT_GONE)


class Heartbeat:
    """Tells the supervisor that this process works, however often it is called."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._due_at = float("-inf")  # monotonic seconds

    def __call__(self) -> None:
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + REPORT_S
            self._outbox.send(READY)
