"""Runs of a process that do what a test says, in place of `ChildProcess`: no process, no pipe, no thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class ScriptedRun:
    """One run. Keeps what it is sent; ends when the test says so, when it is killed, or when it gets `obeys`."""

    def __init__(self, pid: int, args: tuple[Any, ...], on_message: Callable[[Any], None], obeys: type | None) -> None:
        loop = asyncio.get_running_loop()
        self.pid: int | None = pid
        self.args = args
        self.report = on_message
        self.sent: list[Any] = []
        self.killed = False
        self.last_heard = loop.time()
        self._obeys = obeys
        self._exit: asyncio.Future[str] = loop.create_future()

    def send(self, message: Any) -> None:
        self.sent.append(message)
        if self._obeys is not None and isinstance(message, self._obeys):
            self.end("ended unexpectedly with status 0")

    def receive(self) -> bool:
        """A script may have reports on their way at any time."""
        return False

    def kill(self) -> None:
        self.killed = True
        self.end("was ended by SIGKILL")

    def end(self, how: str) -> None:
        if not self._exit.done():
            self._exit.set_result(how)

    def beat(self) -> None:
        self.last_heard = asyncio.get_running_loop().time()

    async def exited(self, patience_s: float | None = None) -> str:
        if patience_s is not None:
            await asyncio.wait([self._exit], timeout=patience_s)
            self.kill()
        return await asyncio.shield(self._exit)


class ScriptedSpawn:
    """Starts scripted runs, or fails to. `obeys`: the message at which a run ends in order."""

    def __init__(self, obeys: type | None = None) -> None:
        self.runs: list[ScriptedRun] = []
        self.starts_s: list[float] = []
        self.refusals = 0  # of the next starts
        self._obeys = obeys

    def __call__(self, args: tuple[Any, ...], on_message: Callable[[Any], None]) -> ScriptedRun:
        self.starts_s.append(asyncio.get_running_loop().time())
        if self.refusals:
            self.refusals -= 1
            raise OSError(24, "Too many open files")
        self.runs.append(ScriptedRun(1_000 + len(self.runs), args, on_message, self._obeys))
        return self.runs[-1]

    @property
    def run(self) -> ScriptedRun:
        """The newest one."""
        return self.runs[-1]
