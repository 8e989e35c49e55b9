"""A replay as a program with sockets: bind, wait for a subscriber if asked to, publish, answer, end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import zmq.asyncio

from mertd.daemon.binding import Endpoints, add_closing, bind_sockets
from mertd.daemon.parts import Sockets
from mertd.daemon.requests import checked
from mertd.daemon.shutdown import Shutdown
from mertd.daemon.signals import Signals
from mertd.errors import WireError, did_you_mean
from mertd.replay.pacing import Pace, Timetable
from mertd.replay.progress import Progress
from mertd.replay.remembered_span import Played, RememberedSpan
from mertd.stream.client.sequence import COUNTERS
from mertd.stream.server.history import History, Page
from mertd.vocabulary import Phase, RequestName
from mertd.wire import Embedding, Event, Status, encode

STATUS_S = 1.0
"""Seconds between two status messages."""

LOOK_S = 0.05
"""Seconds between two looks for a first subscriber."""

SETTLE_S = 0.25
"""Seconds between the first subscription and the first message: a client subscribes to several topics, one after the other."""

AT_ONCE = 64
"""Messages that are published before the sockets are read, when none has to wait."""

FULL_PAUSE_S = 0.005
"""Seconds to wait when the queue of a subscriber is full."""

FULL_PATIENCE_S = 5.0
"""Seconds to wait for a subscriber whose queue stays full, before the others get what it then misses."""

LONG_PAUSE_S = 30.0
"""Seconds without a message that are announced."""

FETCHING_S = 1.0
"""Seconds without a request after which clients count as having fetched what they missed."""

FETCHING_LIMIT_S = 600.0
"""Seconds that a replay waits at its end for clients that fetch what they missed."""

LINGER_S = 30.0
"""Seconds that the last messages may take to leave, when the replay ends by itself."""

STOP_LINGER_S = 0.5
"""Seconds that they may take when it is told to stop."""

KEYS: Mapping[RequestName, set[str]] = {
    RequestName.STATUS: set(),
    RequestName.HISTORY: {"kind", "stream", "last", "first", "end", "boot", "since"},
    RequestName.SHUTDOWN: set(),
}
"""The requests that a replay answers, and the keys that each may have."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manner:
    """How to replay. `waits`: for a first subscriber. `stays`: goes on answering when all was published, until stopped."""

    pace: Pace
    waits: bool = False
    stays: bool = False


class Player:
    """One replay.

    Attributes:
        progress: what was published.
        ended: whether that is all.
        was_heard: whether somebody had subscribed.
    """

    def __init__(
        self, span: RememberedSpan, endpoints: Endpoints, manner: Manner, announce: Callable[[str, str], object]
    ) -> None:
        """`endpoints`: where to bind. `announce`: is told the endpoints once they are bound."""
        self._span = span
        self._endpoints = endpoints
        self._manner = manner
        self._announce = announce
        self.progress = Progress(span, f"memory:{span.folder}")
        self.ended = False
        self.was_heard = False
        self._sockets: Sockets
        self._stop = asyncio.Event()
        self._asked_at = 0.0  # monotonic seconds of the last request for history
        self._started_ns = time.monotonic_ns()
        self._patience_s = FULL_PATIENCE_S  # with subscribers that do not read

    async def run(self) -> None:
        """Replay until all is published, or until told to stop. Raises `EndpointError` if an endpoint is in use."""
        with Signals(self._stop.set, lambda: None):
            context = zmq.asyncio.Context()
            try:
                await self._serve(context)
            finally:
                await self._terminate(context)

    async def _serve(self, context: zmq.asyncio.Context) -> None:
        with ExitStack() as undo:
            sockets = self._sockets = bind_sockets(self._endpoints, context, self.answer, undo)
            undo.pop_all()
        shutdown = self._plan_shutdown(sockets)
        try:
            self._announce(sockets.publisher.endpoint, sockets.control.endpoint)
            loops: list[Coroutine[Any, Any, object]] = [
                self._stop.wait(),
                self._play(),
                sockets.publisher.serve(),
                sockets.control.serve(),
                self._publish_status(),
            ]
            if sockets.authenticator is not None:
                loops += [sockets.authenticator.serve(), sockets.authenticator.watch_list(sockets.connections)]
            tasks = [asyncio.create_task(loop) for loop in loops]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
            finally:
                for task in tasks:
                    task.cancel()
        finally:
            await shutdown.run()
        if shutdown.error is not None:
            raise shutdown.error

    async def _terminate(self, context: zmq.asyncio.Context) -> None:
        """Wait for the last messages to leave, unless told to stop: then for a moment only."""
        leaving = asyncio.create_task(asyncio.to_thread(context.term))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((leaving, stopping), timeout=LINGER_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not leaving.done():
            await asyncio.wait((leaving,), timeout=STOP_LINGER_S)

    def _plan_shutdown(self, sockets: Sockets) -> Shutdown:
        shutdown = Shutdown()
        shutdown.add("publish the last status", self._say_goodbye)
        add_closing(shutdown, sockets, LINGER_S)
        return shutdown

    # Answering

    def answer(self, request: dict[str, Any]) -> Page | Awaitable[Page]:
        """Return the reply to a request. Raises `WireError` for what a replay cannot do."""
        name = request.pop("request", None)
        if name not in KEYS:
            raise WireError(f"this is a replay of a memory; it answers {', '.join(KEYS)}, not {name!r:.50}")
        for key in request:
            if key not in KEYS[name]:
                raise WireError(f"{name} has no {key!r}{did_you_mean(key, KEYS[name])}")
        if name == RequestName.HISTORY:
            return self._find_past(request)
        if name == RequestName.SHUTDOWN:
            self._stop.set()
        return Page([encode(self._status())], False)

    def _find_past(self, request: Mapping[str, Any]) -> Page | Awaitable[Page]:
        self._asked_at = time.monotonic()
        kind = checked(request, "kind", str, "embedding")
        if kind not in COUNTERS:
            raise WireError(f"kind {kind!r} has no history; choose embedding or event")
        streams = self._span.streams
        stream = checked(request, "stream", str, "" if "last" in request or len(streams) > 1 else streams[0])
        if stream not in streams and (stream or "last" not in request):
            raise WireError(f"no stream {stream!r}; choose one of {', '.join(streams)}")
        if "last" in request:
            return self._sockets.publisher.history.last(kind, stream, checked(request, "last", int))
        boot = checked(request, "boot", bytes, self.progress.boot)
        if "since" in request:
            after = boot if "boot" in request and boot in self._span.runs else None
            return asyncio.to_thread(self.progress.page_since, after, kind, stream, checked(request, "since", int))
        if boot not in self._span.runs:
            raise WireError("that run of the daemon is not in this replay")
        end = checked(request, "end", int) if "end" in request else None
        return asyncio.to_thread(self.progress.page, boot, kind, stream, checked(request, "first", int), end)

    def _say_goodbye(self) -> None:
        self.progress.phase = Phase.STOPPING
        self._send_status()

    # Publishing

    async def _play(self) -> None:
        """Publish all, and return when clients have what they can get."""
        publisher = self._sockets.publisher
        if self._manner.waits:
            while not publisher.subscribers:
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(SETTLE_S)
        self.progress.phase = Phase.REPLAYING
        self._send_status()
        timetable = Timetable(self._manner.pace)
        for number, played in enumerate(self._span.messages()):
            await self._wait_until_due(timetable, played)
            if self.progress.note(played.message):
                publisher.history = History()  # as a daemon that was started again
            if not await self._send(played.message):
                publisher.send(played.message)
            if number % AT_ONCE == 0:
                self.was_heard = self.was_heard or bool(publisher.subscribers)
                await asyncio.sleep(0)
        self.ended = True
        self.was_heard = self.was_heard or bool(publisher.subscribers)
        self.progress.end()
        self._send_status()
        await self._let_clients_fetch()

    async def _wait_until_due(self, timetable: Timetable, played: Played) -> None:
        now = time.monotonic()
        wait_s = timetable.due(played.when_ns, now) - now
        if wait_s > LONG_PAUSE_S:
            log.info(
                "nothing was published for a while; the next message comes in %.0f s (--longest-pause shortens this)", wait_s
            )
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _send(self, message: Embedding | Event) -> bool:
        """Publish when no subscriber's queue is full. Returns whether that was so in time."""
        publisher = self._sockets.publisher
        deadline = time.monotonic() + self._patience_s
        while not publisher.send_if_room(message):
            if time.monotonic() >= deadline:
                self._patience_s = 0.0
                return False
            await asyncio.sleep(FULL_PAUSE_S)
        self._patience_s = FULL_PATIENCE_S
        return True

    async def _let_clients_fetch(self) -> None:
        """Wait while clients ask for what they have missed; without end if the replay stays."""
        if self._manner.stays:
            await self._stop.wait()
        limit = time.monotonic() + FETCHING_LIMIT_S
        ended = time.monotonic()
        while self._sockets.publisher.subscribers and time.monotonic() < limit:
            if time.monotonic() - max(self._asked_at, ended) >= FETCHING_S:
                return
            await asyncio.sleep(LOOK_S)

    async def _publish_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_S)
            self._send_status()

    def _send_status(self) -> None:
        self._sockets.publisher.send(self._status())

    def _status(self) -> Status:
        sockets = self._sockets
        facts = {**sockets.connections.facts, "log_lost": 0, "log_left_out": 0}
        if sockets.authenticator is not None:
            facts |= sockets.authenticator.facts
        uptime_ns = time.monotonic_ns() - self._started_ns
        return self.progress.status(time.time_ns(), uptime_ns, sockets.publisher.dropped, facts)
