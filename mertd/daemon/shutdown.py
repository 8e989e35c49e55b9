"""The end of a daemon: steps of which none can prevent the next.

Rules of this file: whatever a step raises is logged and kept, and the steps behind it are taken all the same. What waits for
another process or for libzmq does so with a limit, so that the daemon ends within 5 s.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import zmq

from mertd.processes.managed import ManagedProcess

log = logging.getLogger(__name__)

STOP_S = 2.5
"""Seconds that the child processes may take to end. They run side by side, and are killed after about one second."""

TERMINATE_S = 1.5
"""Seconds that libzmq may take to end, the time in which the last messages leave included."""

Step = Callable[[], Awaitable[object] | object]


class Shutdown:
    """What is done when the daemon stops, in the order in which it was added.

    Attributes:
        error: what the first step that failed has raised; None if none has.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._steps: list[tuple[str, Step]] = []

    def add(self, what: str, step: Step) -> None:
        """Add a step. `what`: completes "could not …" in the log. A step that can be awaited must limit its own time."""
        self._steps.append((what, step))

    async def run(self) -> None:
        """Take all steps."""
        for what, step in self._steps:
            try:
                result = step()
                if inspect.isawaitable(result):
                    await result
            except BaseException as error:  # a cancellation too, which `error` passes on
                log.error("stopping: could not %s", what, exc_info=error)
                self.error = self.error or error


async def stop_processes(stops: Mapping[ManagedProcess, Callable[[], Awaitable[None]]]) -> None:
    """Stop processes, all at the same time, and kill those whose stop fails or takes more than STOP_S.

    Raises what the first stop has raised. A process that is only late has been killed, and ends on its own.
    """

    async def stop(process: ManagedProcess, in_order: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await in_order()
        except TimeoutError:
            log.warning("%s did not end in %.1f s and was killed", process.name, STOP_S)
            process.kill()
        except BaseException:
            process.kill()
            raise

    results = await asyncio.gather(*(stop(process, how) for process, how in stops.items()), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in errors[1:]:
        log.error("stopping: another process could not be stopped in order", exc_info=error)
    if errors:
        raise errors[0]


def terminate(context: zmq.Context[Any]) -> None:
    """End libzmq, within TERMINATE_S.

    It waits for as long as one of its sockets is open, which it is after a step that failed. It then ends with the process.
    """
    thread = threading.Thread(target=context.term, name="terminate", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        log.error("stopping: no thread is left to close the sockets in order: %s", error)
        return
    thread.join(TERMINATE_S)
    if thread.is_alive():
        log.error("stopping: a socket is still open after %.1f s; it closes with the process", TERMINATE_S)
