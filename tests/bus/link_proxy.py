"""TCP links that a test can break: each forwards a port of its own to another one, until it is told to drop what comes.

All links of a process run in one thread. What a link does when it is broken is a `Fault`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, TypeVar

BLOCK = 1 << 16
"""Bytes that are forwarded at once."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER by which closing a socket resets its connection."""

T = TypeVar("T")


class Fault(StrEnum):
    """How a link is broken."""

    STALL = "stall"  # nothing arrives until it is healed, as where packets are dropped and TCP repeats them
    SWALLOW = "swallow"  # what is sent is gone; connections look alive, and are cut when it is healed
    REFUSE = "refuse"  # connections are cut, and each new one is, too


class _Connection:
    """Two ends of a link, and what goes between them."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.writers = [near]
        self.is_spoilt = False  # bytes of it were swallowed

    def cut(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


class Link:
    """One link. `port`: where to connect to; it stays the same. `target`: the port it leads to."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.fault: Fault | None = None
        self._connections: set[_Connection] = set()
        self._loop = _loop()
        self._flows = self._do(self._begin())

    async def _begin(self) -> asyncio.Event:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        flows = asyncio.Event()
        flows.set()
        return flows

    def drop(self, fault: Fault = Fault.STALL) -> None:
        """Break it, until it is healed."""
        self._do(self._set(fault))

    def heal(self) -> None:
        """Let bytes through again."""
        self._do(self._set(None))

    def close(self) -> None:
        """Cut all connections, and give the port back."""
        self._do(self._close())

    async def _set(self, fault: Fault | None) -> None:
        self.fault = fault
        for connection in list(self._connections):
            if fault is Fault.REFUSE or connection.is_spoilt:
                connection.cut()
        if fault in (None, Fault.REFUSE):
            self._flows.set()
        else:
            self._flows.clear()

    async def _close(self) -> None:
        self._server.close()
        await self._set(Fault.REFUSE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            if self.fault is Fault.SWALLOW:
                connection.is_spoilt = True
                while await reader.read(BLOCK):
                    pass
                return
            await self._flows.wait()
            if self.fault is Fault.REFUSE:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            connection.writers.append(far_writer)
            ways = [self._pump(connection, reader, far_writer), self._pump(connection, far_reader, writer)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:  # nothing is there, or it has gone
            pass
        finally:
            self._connections.discard(connection)
            connection.cut()

    async def _pump(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction, until either end is closed."""
        with contextlib.suppress(OSError):
            while data := await reader.read(BLOCK):
                if self.fault is Fault.SWALLOW:
                    connection.is_spoilt = True
                if connection.is_spoilt:
                    continue
                await self._flows.wait()
                writer.write(data)
                await writer.drain()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_running: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all links, in a thread that ends with the process."""
    with _starting:
        if not _running:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="links", daemon=True).start()
            _running.append(loop)
        return _running[0]
