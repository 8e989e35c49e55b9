"""The one place where a daemon is put together: which part gets which others."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import zmq
import zmq.asyncio

from mertd.capture.address import Address
from mertd.config import Settings, model_settings
from mertd.daemon.audio_stream import Stream, StreamOptions
from mertd.daemon.binding import Endpoints, bind_sockets
from mertd.daemon.change_reports import ChangeReports
from mertd.daemon.clocks import EpochClocks
from mertd.daemon.companion import Companion, log_page
from mertd.daemon.composer import Composer, Origin
from mertd.daemon.embed_worker import EmbedWorker
from mertd.daemon.event_log import log_event
from mertd.daemon.model_reports import ModelReports
from mertd.daemon.notify import Notifier
from mertd.daemon.observer import NoObserver, Observer
from mertd.daemon.older_history import OlderHistory
from mertd.daemon.parts import Parts, Sockets
from mertd.daemon.reload import Reloader
from mertd.daemon.requests import Requests
from mertd.daemon.run_state import RunState, StartError
from mertd.daemon.shared_captures import group_streams
from mertd.daemon.status import StatusReporter, StatusSources
from mertd.daemon.stream_needs import descriptors, has_many
from mertd.daemon.streams import Streams
from mertd.daemon.supervisor import Supervisor
from mertd.daemon.timeline import Timeline
from mertd.defaults import SAMPLE_RATE, VIEW_ADDRESS
from mertd.descriptors import raise_limit
from mertd.embed.model_settings import ModelSettings
from mertd.logs import QueuedHandler
from mertd.processes.child import Inherited
from mertd.processes.runs import Spawn
from mertd.ring import Ring
from mertd.stream.server.history import Page
from mertd.windows import Schedule
from mertd.wire import Embedding, Event, Status

CLOCK_MARGIN_S = 60.0
"""Seconds for which a clock remembers more than the ring holds, as a window may wait for its answer."""

Publish = Callable[[Embedding | Event], None]


@dataclass(frozen=True)
class Outside:
    """What a daemon is given besides its settings.

    `log`: whose losses the status reports. `reread`: returns the settings as they would be now.
    """

    log: QueuedHandler | None = None
    reread: Callable[[], Settings] | None = None
    observer: Observer = field(default_factory=NoObserver)


def make_supervisor(settings: Settings, outside: Outside) -> Supervisor:
    """Return a daemon, ready to `run`. Raises `WeightsError` if there are no weights; allocates nothing yet."""
    state = RunState()
    notifier = Notifier(os.environ)
    model = model_settings(settings)
    return Supervisor(state, notifier, lambda context: _assemble(settings, model, outside, state, notifier, context))


def _assemble(
    settings: Settings,
    model: ModelSettings,
    outside: Outside,
    state: RunState,
    notifier: Notifier,
    context: zmq.asyncio.Context,
) -> Parts:
    """Bind the sockets and put the parts together, in a running event loop.

    Raises `EndpointError` if an endpoint is in use, `StartError` if there is no memory; nothing is left open then.
    """
    boot = secrets.token_bytes(16)
    _check_descriptors(settings)
    with ExitStack() as undo:
        streams = Streams(state, settings.exit_at_end, time.monotonic_ns)
        rings: dict[str, Ring] = {}
        worker = EmbedWorker(model, rings, ModelReports(streams, state, notifier, outside.observer))
        streams.dispatcher.attach(worker)
        older = OlderHistory()
        changes = ChangeReports(streams)

        def status() -> Status:
            return reporter.status()

        def answer(request: dict[str, Any]) -> Page | Awaitable[Page]:
            return requests.answer(request)

        endpoints = Endpoints(settings.bind, settings.control, settings.curve, settings.keys)
        sockets = bind_sockets(endpoints, context, answer, undo)
        sockets.publisher.history.make_room(len(settings.addresses))
        requests = Requests(boot, streams, state, sockets.publisher.history, status, older)
        name = settings.name or fingerprint(sockets.publisher.endpoint)
        own = _own_facts(outside.log, sockets)
        companions = _make_companions(settings, sockets, boot, older, changes)
        reporter = StatusReporter(boot, name, StatusSources(state, streams, worker, sockets.publisher, own, companions))

        def publish(message: Embedding | Event) -> None:
            outside.observer.publishing(message)
            sockets.publisher.send(message)
            requests.published(message)
            if isinstance(message, Event):
                log_event(message)

        for address in settings.addresses:
            ring = rings[address.name] = _allocate_ring(settings)
            undo.callback(ring.close)
        spawns = _shared_captures(settings, rings)
        for address in settings.addresses:
            origin = Origin(boot, name, address.name)
            timeline = _make_timeline(settings, rings[address.name], origin, publish)
            spawn = spawns.get(address.name)
            streams[address.name] = Stream(address, _options(settings, address), rings[address.name], timeline, streams, spawn)
        undo.pop_all()
    reloader = Reloader(settings, outside.reread, streams, notifier)
    return Parts(sockets, rings, worker, streams, reporter, reloader, changes, companions)


def _check_descriptors(settings: Settings) -> None:
    """Raise `StartError` if the system does not give this process as many descriptors as its streams need."""
    needed, allowed = descriptors(settings), raise_limit()
    if needed > allowed:
        raise StartError(
            f"{len(settings.addresses)} streams need about {needed:,} file descriptors, and the system allows this process "
            f"{allowed:,}; raise the hard limit (`ulimit -Hn`; LimitNOFILE= of a systemd unit), or listen to fewer streams",
            3,
        )


def _allocate_ring(settings: Settings) -> Ring:
    try:
        return Ring(settings.ring_samples)
    except (OSError, MemoryError) as error:
        seconds = settings.ring_samples / SAMPLE_RATE
        raise StartError(f"no memory for {seconds:.0f} s of audio ({error}); ask for less with --ring", 3) from error


def _shared_captures(settings: Settings, rings: Mapping[str, Ring]) -> dict[str, Spawn]:
    """Return what starts the captures that share processes, by stream: none unless there are many."""
    sharing = [address.name for address in settings.addresses if address.may_share] if has_many(settings) else []
    return group_streams({name: rings[name] for name in sharing})


def _make_timeline(settings: Settings, ring: Ring, origin: Origin, publish: Publish) -> Timeline:
    schedule = Schedule(settings.window_samples, settings.hop_samples, settings.late_policy, ring.capacity)
    clocks = EpochClocks(SAMPLE_RATE, ring.capacity / SAMPLE_RATE + CLOCK_MARGIN_S, time.time_ns)
    return Timeline(origin.stream, schedule, ring, settings.gate, clocks, Composer(origin, clocks, publish))


def _options(settings: Settings, address: Address) -> StreamOptions:
    stdin = Inherited(sys.stdin.fileno()) if address.is_stdin else None
    return StreamOptions(settings.pace == "realtime", settings.exit_at_end, has_many(settings), stdin)


def _make_companions(
    settings: Settings, sockets: Sockets, boot: bytes, older: OlderHistory, changes: ChangeReports
) -> list[Companion]:
    """Return the processes that are started with the daemon and are clients of it."""
    keys = sockets.authenticator.folder if sockets.authenticator is not None else ""
    reached = (sockets.publisher.endpoint, sockets.control.endpoint, keys, settings.memory)
    found: list[Companion] = []
    if settings.remember:
        told = (*reached, settings.keep, boot)

        def replied(message: Any) -> None:
            older.answered(message)
            changes.reported(message)

        memory = Companion("memory", "mertd.memory.remembering", lambda: (*told, dict(changes.told)), replied)
        older.attach(memory)
        changes.attach(memory)
        found.append(memory)
    if settings.view:
        shown = (*reached, settings.view_address or VIEW_ADDRESS, secrets.token_urlsafe(32))
        found.append(Companion("view", "mertd.view.beside_daemon", lambda: shown, log_page))
    if settings.relay is not None:
        place = settings.relay.cursor
        relayed = (*reached[:3], settings.relay.access(), settings.relay.wish(), place, time.time_ns())
        found.append(Companion("relay", "mertd.bus.relaying", lambda: relayed))
    return found


def _own_facts(lines: QueuedHandler | None, sockets: Sockets) -> Callable[[], dict[str, Any]]:
    """Return what tells the parts of the status that only the supervisor's own process knows."""

    def facts() -> dict[str, Any]:
        lost = {"log_lost": lines.lost if lines else 0, "log_left_out": lines.left_out if lines else 0}
        return {
            **lost,
            **sockets.connections.facts,
            **sockets.publisher.facts,
            **(sockets.authenticator.facts if sockets.authenticator is not None else {}),
        }

    return facts


def fingerprint(endpoint: str) -> str:
    """Return what a daemon without a name is called: the same after each start, another one for each host and endpoint."""
    return hashlib.sha256(f"{platform.node()} {endpoint}".encode()).hexdigest()[:8]
