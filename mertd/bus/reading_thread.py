"""A `StreamReader` in a thread of its own, and what it has read, for programs with and without an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from mertd.bus.stream_consumer import Stored, StreamPlace
from mertd.bus.stream_reader import Reading, StreamReader

MAX_WAITING = 512
"""Messages that wait to be taken, at most; then nothing more is asked of the server."""

MAX_WAITING_BYTES = 32 << 20
"""Bytes of them, at most."""

STOP_S = 2.0
"""Seconds to wait for the end of the thread."""


class ReadingThread:
    """Reads ahead, as much as there is room for. Must be used by one thread at a time."""

    def __init__(self, reading: Reading) -> None:
        """Begin to read."""
        self._reader = StreamReader(reading, self._give)
        self._changed = threading.Condition()
        self._waiting: deque[Stored] = deque()
        self._bytes = 0
        self._told: Callable[[], None] | None = None
        self._room: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._room = asyncio.Event()
        self._task = self._loop.create_task(self._reader.run())
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
        except BaseException as error:  # noqa: BLE001 - raised again where messages are taken
            self._failure = error
            self._tell()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _give(self, message: Stored) -> None:
        assert self._room is not None
        while True:
            with self._changed:
                if len(self._waiting) < MAX_WAITING and (self._bytes < MAX_WAITING_BYTES or not self._waiting):
                    self._waiting.append(message)
                    self._bytes += len(message.payload)
                    self._tell_locked()
                    return
                self._room.clear()
            await self._room.wait()

    def _tell(self) -> None:
        with self._changed:
            self._tell_locked()

    def _tell_locked(self) -> None:
        self._changed.notify()
        if self._told is not None:
            self._told()

    @property
    def begun_at(self) -> StreamPlace | None:
        """Where reading has begun; None while that is not known."""
        return self._reader.begun_at

    def take(self) -> Stored | None:
        """Return the next message; None if none waits. Raises what has ended the thread."""
        with self._changed:
            if self._failure is not None and not self._waiting:
                raise self._failure
            if not self._waiting:
                return None
            found = self._waiting.popleft()
            self._bytes -= len(found.payload)
            is_room = self._room is not None and not self._room.is_set()
        if is_room and self._room is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._room.set)
        return found

    def wait(self, deadline: float) -> None:
        """Wait until a message is there, or until then, in monotonic seconds."""
        with self._changed:
            left = deadline - time.monotonic()
            self._changed.wait_for(self._is_ready, None if left == float("inf") else max(0.0, left))

    async def wait_async(self, deadline: float) -> None:
        """Do the same in an event loop, without blocking it."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            if self._is_ready():
                return
            self._told = lambda: _tell_loop(loop, ready)
        left = deadline - time.monotonic()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None if left == float("inf") else max(0.0, left)):
                    await ready.wait()
        finally:
            with self._changed:
                self._told = None

    def _is_ready(self) -> bool:
        return bool(self._waiting) or self._failure is not None

    def stop(self) -> None:
        """End the thread, and disconnect."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join(STOP_S)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _tell_loop(loop: asyncio.AbstractEventLoop, ready: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(ready.set)
