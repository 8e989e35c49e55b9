"""The supervisor's end of one child process: start, hear, tell, stop, and notice the end."""

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
from typing import Any, Protocol

from mertd.processes.child import Inherited, run

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")

LAST_WORDS, LONGEST_WORD = 5, 500
"""Lines of a child's standard error that are kept, and characters of each."""

SILENCE_S = 0.2
"""How long the last words of a dead child may take. A descendant of it may hold its standard error open for ever."""

MEANINGS = {
    signal.SIGKILL: "for want of memory, or by someone's hand",
    signal.SIGSEGV: "a native library has touched memory that is not its own",
    signal.SIGABRT: "a native library has given up",
    signal.SIGBUS: "memory that was promised is not there, or a file was cut short",
    signal.SIGILL: "a native library was built for another processor",
}


class Listener(Protocol):
    """Whoever owns the child. Both are called in the event loop."""

    def heard(self, message: Any) -> None: ...

    def gone(self, how: str) -> None:
        """The process has ended, for whatever reason, and all its messages have been heard. `how`: its end in words."""


class Child:
    """One run of a child process. It is never restarted: the next run is another `Child`.

    `last_heard`: monotonic seconds, set by the thread that hears it, so that a busy event loop makes no child look silent.
    """

    def __init__(self, name: str, module: str, args: tuple[Any, ...], listener: Listener) -> None:
        """Start `main(*args, pipe)` of a module in a spawned process. Call in a running event loop.

        Raises `OSError` if there are no descriptors, processes, threads or memory left; nothing of the attempt then remains.
        """
        self.name = name
        self.started = self.last_heard = time.monotonic()
        self._loop, self._listener = asyncio.get_running_loop(), listener
        self._ended = asyncio.Event()
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        # `ours` is closed if the process cannot be started, `theirs` in any case.
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self._pipe, their_pipe = _SPAWN.Pipe()
            ours.callback(self._pipe.close)
            theirs.callback(their_pipe.close)
            words, their_words = os.pipe()
            theirs.callback(os.close, their_words)
            with contextlib.ExitStack() as unread:
                unread.callback(os.close, words)
                self._wording = _start_thread(f"words-{name}", self._hear_words, words)
                unread.pop_all()  # the thread closes it
            self._process = _SPAWN.Process(
                target=run, args=(module, Inherited(their_words), *args, their_pipe), name=f"mertd-{name}", daemon=True
            )
            self._start_process()
            try:
                _start_thread(f"hear-{name}", self._listen, self._pipe)
            except OSError:
                self._process.kill()
                self._process.join()
                raise
            ours.pop_all()

    def _start_process(self) -> None:
        resource_tracker.ensure_running()  # now, because it resets the mask below
        # A child must not die of the signals that stop the daemon, not even before it can say so itself.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _listen(self, pipe: Connection) -> None:
        """In a thread of its own, so that a child that dies or hangs in mid-message never holds up the supervisor."""
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                break
            self.last_heard = time.monotonic()
            self._call(self._listener.heard, message)
        self._process.join()
        self._wording.join(SILENCE_S)
        self._call(self._end)

    def _hear_words(self, descriptor: int) -> None:
        """Log what the child writes to standard error, and keep the last of it."""
        with open(descriptor, encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(LONGEST_WORD):
                if text := line.strip():
                    self._last_words.append(text)
                    log.info("%s says: %s", self.name, text)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon is ending
            self._loop.call_soon_threadsafe(function, *args)

    def _end(self) -> None:
        self._ended.set()
        self._pipe.close()
        status = self._process.exitcode
        # Who is killed has no last words; what was said before has nothing to do with it.
        words = " | ".join(self._last_words) if status not in (0, -signal.SIGKILL) else ""
        self._listener.gone(in_words(status) + (f"; its last words: {words}" if words else ""))

    def send(self, message: Any) -> None:
        """Tell the child; in vain if it is gone, which `gone` then says."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

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


def _start_thread(name: str, target: Callable[[Any], None], argument: object) -> threading.Thread:
    """Raises `OSError` if the system allows no more threads."""
    thread = threading.Thread(target=target, args=(argument,), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return thread


def in_words(status: int | None) -> str:
    """How a process ended, given its exit status as `multiprocessing` has it: negative for a signal."""
    if status is None or status >= 0:
        return f"ended unasked with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"was ended by signal {-status}"
    meaning = MEANINGS.get(number)
    return f"was ended by {number.name}" + (f" ({meaning})" if meaning else "")
