"""The life of a daemon: startup, serve, shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import zmq.asyncio

from mertd.daemon.audio_stream import Stream
from mertd.daemon.binding import add_closing
from mertd.daemon.notify import Notifier
from mertd.daemon.parts import Parts
from mertd.daemon.run_state import RunState
from mertd.daemon.shutdown import Shutdown, stop_processes, terminate
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

        Raises `MertdError` if the daemon could not start, or could not go on; otherwise what the first failed step of the
        shutdown has raised. All other steps were taken by then.
        """
        with Signals(self._state.stop, self._reload):
            context = zmq.asyncio.Context()
            try:
                await self._run(context)
            finally:
                terminate(context)

    async def _run(self, context: zmq.asyncio.Context) -> None:
        if self._state.stop_asked:
            log.info("stopping: %s, before anything was started", self._state.reason)
            return
        parts = self._parts = self._assemble(context)
        shutdown = self._plan_shutdown(parts)
        try:
            self._startup(parts)
            await self._serve(parts)
        finally:
            await shutdown.run()
        if (error := self._state.failure or shutdown.error) is not None:
            raise error

    def _startup(self, parts: Parts) -> None:
        """Start the processes."""
        log.info("publishing on %s, control on %s", parts.sockets.publisher.endpoint, parts.sockets.control.endpoint)
        parts.worker.process.start()
        for stream in parts.streams.values():
            stream.start()
        for companion in parts.companions:
            companion.process.start()

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

    def _plan_shutdown(self, parts: Parts) -> Shutdown:
        """Return what is done when the daemon stops."""
        shutdown = Shutdown()
        sockets = parts.sockets
        streams = parts.streams
        shutdown.add("say that it stops", self._begin_stopping)
        shutdown.add("publish the last changes", parts.changes.settle)
        for name, stream in streams.items():
            shutdown.add(f"publish that {name} stops", partial(self._announce_stop, stream))
        stops = {parts.worker.process: parts.worker.stop, **{stream.process: stream.stop for stream in streams.values()}}
        shutdown.add("stop all processes", partial(stop_processes, stops))
        for process in stops:
            shutdown.add(f"kill {process.name}", process.kill)  # if it is still there
        # Nothing is published after the last status.
        shutdown.add("publish the last status", lambda: sockets.publisher.send(parts.reporter.status()))
        shutdown.add("stop the companions", partial(stop_processes, {c.process: c.stop for c in parts.companions}))
        for companion in parts.companions:
            shutdown.add(f"kill {companion.process.name}", companion.process.kill)
        for name, ring in parts.rings.items():
            shutdown.add(f"release the ring of {name}", ring.close)
        add_closing(shutdown, sockets, LINGER_S)
        return shutdown

    def _begin_stopping(self) -> None:
        self._state.phase = Phase.STOPPING
        log.info("stopping: %s", self._state.reason)
        self._notifier.stopping(self._state.reason)

    def _announce_stop(self, stream: Stream) -> None:
        stream.timeline.event(EventName.STOPPING, reason=self._state.reason)

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
            for companion in parts.companions:
                companion.process.watch()
            self._notifier.turned("watch")
            await asyncio.sleep(WATCH_S)

    def _reload(self) -> None:
        """SIGHUP: read the configuration again, unless the daemon is stopping."""
        if self._parts is not None and self._state.phase is not Phase.STOPPING:
            self._parts.reloader.reload()
