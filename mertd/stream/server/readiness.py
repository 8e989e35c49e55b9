"""Waiting in an event loop for a ZeroMQ socket that is read without `zmq.asyncio`, in pieces of bounded size."""

from __future__ import annotations

import asyncio
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

    async def wait(self) -> None:
        """Return when the socket has a message, or after `WAIT_S`."""
        self._readable.clear()
        if self._socket.poll(0):
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
