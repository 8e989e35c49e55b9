"""The parent's side of one run of a child process: start it, receive from it, send to it, and notice its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import multiprocessing
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

from mertd.processes.child import Inherited, run
from mertd.processes.framing import MessageParser

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")

READ_BYTES = 1 << 16
"""Bytes that are read from a child at once: a burst of its messages, or a part of a large one."""

MAX_READS = 16
"""Reads in a row, after which others get their turn: a child that floods must not hold up the loop."""

UNREAD_S = 0.5
"""Seconds without a message after which unread bytes are looked for, before the child is taken for silent."""

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

    Its messages are read in the event loop, without waiting for the rest of one: a child that dies or hangs in mid-message
    must not block the loop, and a thread for each child would cost more than the messages do.

    Attributes:
        name: what logs call it.
    """

    def __init__(self, name: str, module: str, args: tuple[Any, ...], on_message: Callable[[Any], None]) -> None:
        """Start `main(*args, pipe)` of `module` in a spawned process. Call in a running event loop, which then calls
        `on_message` with every message.

        Raises `OSError` if there are no descriptors, processes, threads or memory left; nothing of the attempt then remains.
        """
        self.name = name
        self._heard_at = time.monotonic()
        self._on_message = on_message
        self._parser = MessageParser()
        self._listening = True
        self._awaited = {self._ended, self._stderr_over}  # what must have happened before `exited` returns
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[str] = self._loop.create_future()
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        # `ours` is closed if the process cannot be started, `theirs` in any case.
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self._pipe, their_pipe = _SPAWN.Pipe()
            ours.callback(self._pipe.close)
            self._poll = select.poll()  # not `select.select`, which takes no descriptor above 1,023
            self._poll.register(self._pipe.fileno(), select.POLLIN)
            theirs.callback(their_pipe.close)
            stderr, their_stderr = os.pipe()
            theirs.callback(os.close, their_stderr)
            with contextlib.ExitStack() as unread:
                unread.callback(os.close, stderr)
                _start_thread(f"stderr-{name}", self._read_stderr, stderr)
                unread.pop_all()  # the thread closes it
            arguments = (module, Inherited(their_stderr), *args, their_pipe)
            self._process = _SPAWN.Process(target=run, args=arguments, name=f"mertd-{name}", daemon=True)
            self._start_process()
            try:
                self._loop.add_reader(self._pipe.fileno(), self._receive)
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

    def _receive(self) -> bool:
        """Pass on what has arrived; called in the event loop whenever something has. Return whether there was anything.

        What the loop had found `receive` may have read since: then a read would block until the child says something else.
        """
        if not self._has_unread():
            return False
        try:
            data = os.read(self._pipe.fileno(), READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._stop_listening()
            return True
        self._heard_at = time.monotonic()
        try:
            for message in self._parser.feed(data):
                self._pass_on(message)
        except Exception:  # whatever pickle raises
            log.exception("%s sent bytes that are no message; killing it", self.name)
            self.kill()
            self._stop_listening()
        return True

    def _pass_on(self, message: Any) -> None:
        try:
            self._on_message(message)
        except Exception as error:  # noqa: BLE001 - a bug: it is reported, and the next message must be heard all the same
            self._loop.call_exception_handler({"message": f"a message of {self.name} was not handled", "exception": error})

    def receive(self) -> bool:
        """Pass on all that has arrived by now, without waiting for the event loop to do so. Return False if it was too much."""
        return not all(self._receive() for _ in range(MAX_READS))

    def _has_unread(self) -> bool:
        return self._listening and bool(self._poll.poll(0))

    def _stop_listening(self) -> None:
        """No more messages will come; wait for the end of the process."""
        self._listening = False
        self._loop.remove_reader(self._pipe.fileno())
        self._loop.add_reader(self._process.sentinel, self._ended)

    def _ended(self) -> None:
        """The process is gone. Its last lines may not have been read yet."""
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._loop.call_later(LAST_LINES_S, self._finish)
        self._came_about(self._ended)

    def _stderr_over(self) -> None:
        """All its lines were read."""
        self._came_about(self._stderr_over)

    def _came_about(self, event: Callable[[], None]) -> None:
        self._awaited.discard(event)
        if not self._awaited:
            self._finish()

    def _read_stderr(self, descriptor: int) -> None:
        """Log what the child writes to standard error, and keep the last lines."""
        with open(descriptor, encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(MAX_LINE):
                if text := line.strip():
                    self._last_lines.append(text)
                    log.info("%s says: %s", self.name, text)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon is ending
            self._loop.call_soon_threadsafe(self._stderr_over)

    def _finish(self) -> None:
        if self._exit.done():
            return
        self._pipe.close()
        status = self._process.exitcode
        # A killed process could not explain its end; what it wrote before has nothing to do with it.
        lines = " | ".join(self._last_lines) if status not in (0, -signal.SIGKILL) else ""
        self._exit.set_result(describe_exit(status) + (f"; its last output: {lines}" if lines else ""))

    def send(self, message: Any) -> None:
        """Send a message to the child. Does nothing if it is gone, which `exited` then reports."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    @property
    def last_heard(self) -> float:
        """Monotonic seconds of its last message. What is unread was sent lately: a busy event loop does not make the child look
        silent.
        """
        now = time.monotonic()
        if now - self._heard_at > UNREAD_S and self._has_unread():
            self._heard_at = now
        return self._heard_at

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


def _start_thread(name: str, target: Callable[[Any], None], argument: object) -> None:
    """Start a daemon thread. Raises `OSError` if the system allows no more threads."""
    thread = threading.Thread(target=target, args=(argument,), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
