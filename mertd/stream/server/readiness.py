"""Waiting in an event loop for a ZeroMQ socket that is read without `zmq.asyncio`, in pieces of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import zmq

WAIT_S = 1.0
"""Longest wait. libzmq signals only once that a socket has become readable; if a signal is missed, this bounds the delay."""


class Readiness:
    """Tells when a socket may have messages. `touched` must be called after each send: sending may swallow libzmq's signal."""

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._socket = socket
        self._readable = asyncio.Event()

    def touched(self) -> None:
        """The socket was used: look again."""
        self._readable.set()

    def wake_from_other_threads(self) -> Callable[[], None]:
        """Return what has the running event loop look again, and may be called in any thread."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._readable.set)

        return wake

    async def wait(self) -> None:
        """Return when the socket has a message or was touched, or after `WAIT_S`."""
        touched = self._readable.is_set()
        self._readable.clear()
        if touched or self._socket.poll(0):
            return
        loop, descriptor = asyncio.get_running_loop(), self._socket.fileno()
        # Only while waiting: the descriptor stays readable until the socket is used, and would keep the loop spinning.
        loop.add_reader(descriptor, self._readable.set)
        try:
            async with asyncio.timeout(WAIT_S):  # `wait_for` of Python 3.11 can swallow a cancellation
                await self._readable.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(descriptor)
