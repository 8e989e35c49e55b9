"""The life of a daemon: startup, serve, shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import zmq.asyncio

from mertd.daemon.notify import Notifier
from mertd.daemon.parts import Parts
from mertd.daemon.run_state import RunState
from mertd.daemon.signals import Signals
from mertd.vocabulary import EventName, Phase

log = logging.getLogger(__name__)

STATUS_S = 1.0
"""Seconds between two status messages."""

WATCH_S = 0.25
"""Seconds between two looks for processes that hang."""

LINGER_S = 0.5
"""Seconds that the last messages may take to leave."""


class Supervisor:
    """One run of the daemon."""

    def __init__(self, state: RunState, notifier: Notifier, assemble: Callable[[zmq.asyncio.Context], Parts]) -> None:
        """`assemble`: binds the sockets and puts the parts together; raises `MertdError` if that cannot be done."""
        self._state = state
        self._notifier = notifier
        self._assemble = assemble
        self._parts: Parts | None = None

    def stop(self, reason: str) -> None:
        """Stop in order, for this reason."""
        self._state.stop(reason)

    async def run(self) -> None:
        """Start, serve until told to stop or until there is nothing left to do, and stop.

        Raises `MertdError` if the daemon could not start, or could not go on.
        """
        with Signals(self._state.stop, self._reload), zmq.asyncio.Context() as context:
            if self._state.stop_asked:
                log.info("stopping: %s, before anything was started", self._state.reason)
                return
            parts = self._parts = self._assemble(context)
            async with AsyncExitStack() as shutdown:
                self._plan_shutdown(parts, shutdown)
                self._startup(parts)
                await self._serve(parts)
        if self._state.failure is not None:
            raise self._state.failure

    def _startup(self, parts: Parts) -> None:
        """Start the processes."""
        log.info("publishing on %s, control on %s", parts.sockets.publisher.endpoint, parts.sockets.control.endpoint)
        parts.worker.process.start()
        for stream in parts.streams.values():
            stream.start()

    async def _serve(self, parts: Parts) -> None:
        """Run the loops of the daemon until one of them ends: all but the first never do, unless there is a bug."""
        sockets = parts.sockets
        loops: list[Coroutine[Any, Any, None]] = [
            self._state.wait_for_stop(),
            sockets.publisher.serve(),
            sockets.control.serve(),
            self._publish_status(parts),
            self._watch_processes(parts),
        ]
        if sockets.authenticator is not None:
            loops += [sockets.authenticator.serve(), sockets.authenticator.watch_list(sockets.connections)]
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # a bug in one of them ends the daemon: it must not go on without watching, for example
        finally:
            for task in tasks:
                task.cancel()

    def _plan_shutdown(self, parts: Parts, shutdown: AsyncExitStack) -> None:
        """Register what is done when the daemon stops, last thing first. An error in one step does not prevent the next."""
        sockets = parts.sockets
        if sockets.authenticator is not None:
            shutdown.callback(sockets.authenticator.close)
        shutdown.callback(sockets.instance.close)
        shutdown.callback(sockets.connections.close)
        shutdown.callback(sockets.publisher.close, LINGER_S)
        shutdown.callback(sockets.control.close)
        for ring in parts.rings.values():
            shutdown.callback(ring.close)
        shutdown.callback(lambda: sockets.publisher.send(parts.reporter.status()))  # nothing is published after it
        shutdown.push_async_callback(self._stop_processes, parts)
        shutdown.callback(self._announce_stop, parts)

    def _announce_stop(self, parts: Parts) -> None:
        self._state.phase = Phase.STOPPING
        log.info("stopping: %s", self._state.reason)
        self._notifier.stopping(self._state.reason)
        parts.streams.announce(EventName.STOPPING, reason=self._state.reason)

    async def _stop_processes(self, parts: Parts) -> None:
        """Stop all of them at the same time, whatever goes wrong with any."""
        stops = [parts.worker.stop(), *(stream.stop() for stream in parts.streams.values())]
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("a process could not be stopped in order", exc_info=result)

    # Meanwhile

    async def _publish_status(self, parts: Parts) -> None:
        """Publish the status once a second."""
        while True:
            parts.sockets.publisher.send(parts.reporter.status())
            self._notifier.turned("status", parts.reporter.summary())
            await asyncio.sleep(STATUS_S)

    async def _watch_processes(self, parts: Parts) -> None:
        """Look for processes that hang, several times a second."""
        while True:
            parts.worker.process.watch()
            for stream in parts.streams.values():
                stream.process.watch()
            self._notifier.turned("watch")
            await asyncio.sleep(WATCH_S)

    def _reload(self) -> None:
        """SIGHUP: read the configuration again, unless the daemon is stopping."""
        if self._parts is not None and self._state.phase is not Phase.STOPPING:
            self._parts.reloader.reload()
