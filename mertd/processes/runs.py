"""What a managed process needs of one run of it, and what starts such a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from mertd.processes.parent import ChildProcess


class Run(Protocol):
    """One run of a process; `ChildProcess` is the real one."""

    @property
    def last_heard(self) -> float: ...

    @property
    def pid(self) -> int | None: ...

    def send(self, message: Any) -> None: ...

    def receive(self) -> bool:
        """Pass on all that it has sent by now. Return whether that could be done."""

    def kill(self) -> None: ...

    async def exited(self, patience_s: float | None = None) -> str: ...


Spawn = Callable[[tuple[Any, ...], Callable[[Any], None]], Run]
"""Start a run, given the arguments of its `main` and what is called with its messages. Raises `OSError`."""


def spawner(name: str, module: str) -> Spawn:
    """Return what starts `main` of `module` in a child process that is called `name`."""
    return partial(ChildProcess, name, module)
