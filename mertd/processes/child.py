"""What both kinds of child process share: how they start, and their end of the pipe to the supervisor.

A child ignores the signals that stop the daemon: the supervisor gets them too and stops the children in order. It ends when the
supervisor says so or has gone, whatever it is doing at that moment.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

GONE = 70
"""Exit status of a child whose supervisor has vanished."""

PR_SET_PDEATHSIG = 1
"""Of Linux's <sys/prctl.h>: the signal that a process gets when its parent dies."""


class Inherited:
    """A file descriptor that travels to a child when it is spawned."""

    def __init__(self, descriptor: int) -> None:
        self._dup: Any = descriptor

    def detach(self) -> int:
        """The descriptor, in whichever process this is."""
        return self._dup if isinstance(self._dup, int) else int(self._dup.detach())

    def __getstate__(self) -> dict[str, Any]:
        return {"_dup": reduction.DupFd(self._dup)}


def run(module: str, stderr: Inherited, *args: Any) -> None:
    """Target of every child process: `module`'s `main`. By name, so that the supervisor never loads a child's libraries.

    `stderr`: what becomes its standard error, so that the supervisor hears what native libraries say, and their last words.
    """
    _die_with_parent()
    descriptor = stderr.detach()
    os.dup2(descriptor, 2)
    os.close(descriptor)
    importlib.import_module(module).main(*args)


def _die_with_parent() -> None:
    """Where the system can do that, it ends this process with the supervisor: even one that is stopped or hangs in native code.

    Linux ties this to the *thread* that started the process, so the supervisor starts its children in the thread that runs its
    event loop, which lasts as long as itself. Elsewhere, only the end of the pipe tells (see `begin`).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it has died already
            os._exit(GONE)


def begin(pipe: Connection, on_message: Callable[[Any], None]) -> None:
    """Call first in a child: detaches it from terminal signals and hands every message from the supervisor to `on_message`.

    `on_message` runs in a thread of its own. When the supervisor is gone the process exits at once: there is nobody to clean up
    for, and a native call may be blocking the main thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def listen() -> None:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                os._exit(GONE)
            on_message(message)

    threading.Thread(target=listen, name="supervisor", daemon=True).start()


class Outbox:
    """Sends to the supervisor from any thread; exits the process if it is gone."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: object) -> None:
        with self._lock:
            try:
                self._pipe.send(message)
            except OSError:
                os._exit(GONE)
