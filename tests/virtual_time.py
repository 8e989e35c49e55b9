"""An event loop whose time is virtual: when nothing is left to do it jumps to the next timer, so that nothing has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Begins at 0 s. Only for coroutines that wait for nothing but timers and each other."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0

    def time(self) -> float:
        return self._virtual_now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._virtual_now = max(self._virtual_now, self._scheduled[0]._when)
        super()._run_once()


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end in virtual time; fails if a task that it has started goes wrong."""
    errors: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
        result = runner.run(coroutine)
    assert not errors, errors
    return result
