"""The daemon: binds the sockets, owns the processes, carries windows from one to the other and publishes what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio

from mertd import __version__
from mertd.config import Settings, changes, weights_spec
from mertd.daemon.audio_stream import Listening
from mertd.daemon.dispatcher import Dispatcher
from mertd.daemon.embed_worker import Embedding
from mertd.daemon.event_log import log_event
from mertd.daemon.instance import Instance, explain
from mertd.daemon.notify import Notifier
from mertd.daemon.requests import Requests
from mertd.daemon.signals import Signals
from mertd.daemon.timeline import Timeline
from mertd.defaults import SAMPLE_RATE
from mertd.embed.messages import Answers, Copied, Ready
from mertd.embed.settings import ModelSettings
from mertd.errors import MertdError
from mertd.logs import QueuedHandler, set_level
from mertd.processes.child import Inherited
from mertd.processes.health import Change
from mertd.ring import Ring
from mertd.stream.control import ControlServer
from mertd.stream.endpoint import InUseError
from mertd.stream.keyring import Keyring
from mertd.stream.publisher import Publisher
from mertd.stream.zap import Guard
from mertd.windows import Schedule
from mertd.wire import Embedding as EmbeddingMessage
from mertd.wire import Event, Status, fit

log = logging.getLogger(__name__)

STATUS_S, WATCH_S = 1.0, 0.25
LINGER_S = 0.5
"""How long the last messages may take to leave."""


class StartError(MertdError):
    """The daemon could not start or cannot go on; carries the exit code of whatever stopped it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(*message.splitlines() if exit_code == 1 else [message])  # several lines only of a bug's traceback
        self.exit_code = exit_code  # type: ignore[misc]


class Supervisor:
    """One run of the daemon. `run` returns when it has stopped in order, and raises when something stopped it."""

    def __init__(
        self, settings: Settings, lines: QueuedHandler | None = None, reread: Callable[[], Settings] | None = None
    ) -> None:
        """`lines`: the log, whose losses the status tells. `reread`: the settings as they would be now.

        Raises `WeightsError` if there are no weights to run with. Allocates nothing yet.
        """
        self._settings, self._lines, self._reread = settings, lines, reread
        self._notifier = Notifier(os.environ)
        self._model_settings = ModelSettings(weights_spec(settings), settings.layers, settings.backend, settings.window_samples)
        self.boot = secrets.token_bytes(16)
        self._started_ns = time.monotonic_ns()
        self._phase = "starting"
        self._reason = "asked to"
        self._failure: StartError | None = None
        self.streams: dict[str, Listening] = {}
        self.timelines: dict[str, Timeline] = {}

    async def run(self) -> None:
        """Start, serve until told to stop or there is nothing left to do, stop. Raises `MertdError` if it could not go on."""
        self._stop = asyncio.Event()
        with Signals(self._stop.set, self._reload), zmq.asyncio.Context() as context:
            if self._stop.is_set():
                log.info("stopping: %s, before anything was begun", self._reason)
                return
            self._bind(context)
            tasks = []
            try:
                self._start()
                work = [self._control.serve(), self._beat(), self._watch()]
                if self._guard is not None:
                    work += [self._guard.serve(), self._guard.watch_list(self._publisher.bound, self._control.bound)]
                tasks = [asyncio.create_task(one) for one in work]
                stopped = asyncio.create_task(self._stop.wait())
                done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task  # a bug in one of them ends the daemon: it must not go on without watching, say
            finally:
                for task in tasks:
                    task.cancel()
                await self._shut_down()
        if self._failure is not None:
            raise self._failure

    # Life

    def _bind(self, context: zmq.asyncio.Context) -> None:
        synchronous = zmq.Context(context)  # the same one: keys are judged once per context
        with contextlib.ExitStack() as undo:
            option = "--bind"
            try:
                self._guard = Guard(context, Keyring(self._settings.keys)) if self._settings.curve else None
                if self._guard is not None:
                    undo.callback(self._guard.close)
                self._publisher = Publisher(synchronous, self._settings.bind, self._guard)
                undo.callback(self._publisher.close)
                option = "--control"
                self._requests = Requests(self, self._publisher.history)
                self._control = ControlServer(context, self._settings.control, self._requests.answer, self._guard)
                undo.callback(self._control.close)
            except InUseError as error:
                raise explain(error, option) from error
            self._name = self._settings.name or name_of(self._publisher.endpoint)
            keys = self._guard.folder if self._guard is not None else ""
            self._instance = Instance(self._publisher.endpoint, self._control.endpoint, keys)
            undo.pop_all()

    def _start(self) -> None:
        settings, tokens = self._settings, itertools.count()
        self._rings: dict[str, Ring] = {}
        self._embedding = Embedding(self._model_settings, self._rings, self)
        self._dispatcher = Dispatcher(self.timelines, self._embedding, time.monotonic_ns)
        log.info("publishing on %s, control on %s", self._publisher.endpoint, self._control.endpoint)
        for address in settings.addresses:
            ring = self._rings[address.name] = self._ring()
            timeline = self.timelines[address.name] = Timeline(
                name=address.name,
                boot=self.boot,
                daemon=self._name,
                rate=SAMPLE_RATE,
                schedule=Schedule(settings.window_samples, settings.hop_samples, settings.late_policy, ring.capacity),
                ring=ring,
                layers=settings.layers,
                gate_dbfs=settings.gate,
                tokens=tokens,
                unix_ns=time.time_ns,
                publish=self._publish,
            )
            realtime = settings.pace == "realtime"
            self.streams[address.name] = Listening(address, realtime, settings.exit_at_end, ring, timeline, self)
        self._embedding.start()
        for stream in self.streams.values():
            stream.start(Inherited(sys.stdin.fileno()) if stream.address.is_stdin else None)

    def _ring(self) -> Ring:
        try:
            return Ring(self._settings.ring_samples)
        except (OSError, MemoryError) as error:
            seconds = self._settings.ring_samples / SAMPLE_RATE
            raise StartError(f"no memory for {seconds:.0f} s of audio ({error}); ask for less with --ring", 3) from error

    async def _beat(self) -> None:
        """Once a second: publish the status."""
        while True:
            self._publisher.send(self.status())
            self._publisher.forget_subscriptions()
            self._notifier.turned("status", self._summary())
            await asyncio.sleep(STATUS_S)

    async def _watch(self) -> None:
        """Several times a second: look for processes that hang."""
        while True:
            self._embedding.keeper.watch()
            for stream in self.streams.values():
                stream.keeper.watch()
            self._notifier.turned("watch")
            await asyncio.sleep(WATCH_S)

    def _publish(self, message: EmbeddingMessage | Event) -> None:
        """Publish a stream's message; events are logged, too."""
        self._publisher.send(message)
        self._requests.published(message)
        if isinstance(message, Event):
            log_event(message)

    def stop(self, reason: str) -> None:
        """Stop in order, for this reason."""
        self._reason = reason
        self._stop.set()

    def _reload(self) -> None:
        """SIGHUP: read the configuration again, change what can change, and name what takes a restart."""
        self._notifier.reloading()
        detail: dict[str, Any] = {"changed": [], "restart": [], "error": ""}
        try:
            new = self._reread() if self._reread else self._settings
        except MertdError as error:
            detail["error"] = str(error)
            log.error("the configuration stays as it is: %s", error)
        else:
            live, detail["restart"] = changes(self._settings, new)
            for name, value in live.items():
                try:
                    self.apply(name, value)
                except ValueError as error:
                    detail["error"] = f"{name}: {error}"
                else:
                    detail["changed"].append(name)
            if detail["restart"]:
                log.warning("a restart is needed before these count: %s", ", ".join(detail["restart"]))
        for stream in self.streams.values():
            stream.timeline.event("reloaded", **detail)
        self._notifier.reloaded()

    def apply(self, name: str, value: Any) -> None:
        """Change one of the settings that can change live. Raises `ValueError` for a hop that does not fit the ring."""
        for stream in self.streams.values():
            match name:
                case "hop":
                    stream.timeline.change(hop=round(value * SAMPLE_RATE))
                case "gate":
                    stream.timeline.change(gate_dbfs=value)
        if name == "log_level":
            set_level(value)
        self._settings = self._settings.model_copy(update={name: value})

    async def _shut_down(self) -> None:
        self._phase = "stopping"
        log.info("stopping: %s", self._reason)
        self._notifier.stopping(self._reason)
        for stream in self.streams.values():
            stream.timeline.event("stopping", reason=self._reason)
        await asyncio.gather(self._embedding.stop(), *(stream.stop() for stream in self.streams.values()))
        self._publisher.send(self.status())  # the last word: nothing is published after it
        for ring in self._rings.values():
            ring.close()
        self._control.close()
        self._publisher.close(LINGER_S)
        self._instance.close()
        if self._guard is not None:
            self._guard.close()

    # What streams report

    def heard_more(self, stream: Listening) -> None:
        """One capture has reported. Each does so twenty times a second: nothing here may look at all of them."""
        if stream.timeline.due:
            self._dispatch()
        stream.grant()

    def progress(self) -> None:
        """Give the model its next batch, if it is free; let captures at fast pace go on; see whether all is done."""
        self._dispatch()
        for stream in self.streams.values():
            stream.grant()
        everything_heard = all(stream.is_over and not stream.timeline.waiting for stream in self.streams.values())
        broken = [stream for stream in self.streams.values() if stream.state == "failed"]
        if not everything_heard or not (self._settings.exit_at_end or broken):
            return
        if broken:
            self.cannot_start("; ".join(f"{stream.address.name}: {stream.problem}" for stream in broken), 3)
        if self._failure is None:
            self._reason = "all sources have ended"
        self._stop.set()

    def cannot_start(self, message: str, exit_code: int) -> None:
        """Something without which the daemon is of no use has failed: stop, with this error."""
        if self._failure is None:
            self._failure, self._reason = StartError(message, exit_code), "failed"
        self._stop.set()

    def _dispatch(self) -> None:
        if self._phase != "stopping":
            self._dispatcher.dispatch()

    # What the model reports

    def model_ready(self, model: Ready, previous: Ready | None) -> None:
        """The model can embed; announced if it is not the backend that was wanted, or not the one that was."""
        self._phase = "running"
        self._notifier.ready()
        before = previous.backend if previous else ""
        if before != model.backend and (before or model.rejected):
            reason = model.rejected.get(before) or "; ".join(f"{name}: {why}" for name, why in model.rejected.items())
            detail: dict[str, Any] = {"backend": model.backend, "previous": before, "reason": reason}
            for stream in self.streams.values():
                stream.timeline.event("backend_changed", rejected=dict(model.rejected), **detail)
        self.progress()

    def copied(self, message: Copied) -> None:
        """The windows of a batch are out of the ring."""
        self._dispatcher.copied(message)

    def answered(self, message: Answers, model: Ready) -> None:
        """Vectors, or silence."""
        self._dispatcher.answered(message, model)
        self.progress()

    def model_lost(self) -> None:
        """The embed process has died: its windows wait for the next one."""
        self._dispatcher.worker_lost()

    def health_changed(self, process: str, change: Change) -> None:
        """The model's process serves all streams, so each of them tells."""
        for stream in self.streams.values():
            stream.health_changed(process, change)

    # What clients ask

    def status(self) -> Status:
        """All counters, now."""
        model = self._embedding.model
        return Status(
            boot=self.boot,
            daemon=self._name,
            time_ns=time.time_ns(),
            uptime_ns=time.monotonic_ns() - self._started_ns,
            version=__version__,
            phase=self._phase,
            model=fit(_model_facts(model)) if model else {},
            streams=fit(
                {
                    name: {
                        "state": stream.state,
                        "source": str(stream.address),
                        "description": stream.description,
                        "problem": stream.problem,
                        "restarts": stream.keeper.restarts,
                        **stream.timeline.counters,
                    }
                    for name, stream in self.streams.items()
                }
            ),
            processes=fit(
                {
                    "supervisor": self._own_facts(),
                    "embed": self._embedding.keeper.facts,
                    **{stream.keeper.name: stream.process for stream in self.streams.values()},
                }
            ),
            published=self._publisher.published,
            dropped=self._publisher.dropped,
        )

    def _summary(self) -> str:
        """How the daemon is, in a line: for the service manager."""
        model = self._embedding.model
        parts = [f"{model.model} on {model.backend}" if model else "model not ready"]
        for name, stream in self.streams.items():
            counts = stream.timeline.counters
            parts.append(f"{name} {stream.state}: {counts['embedded']} embedded, {counts['skipped']} skipped")
        return "; ".join(parts)

    def _own_facts(self) -> dict[str, Any]:
        guard = self._guard.facts if self._guard is not None else {}
        lost, left_out = (self._lines.lost, self._lines.left_out) if self._lines else (0, 0)
        return {"pid": os.getpid(), "restarts": 0, "state": "healthy", "log_lost": lost, "log_left_out": left_out, **guard}


def name_of(endpoint: str) -> str:
    """What a daemon that was given no name is called: the same after each start, another one for each host and endpoint."""
    return hashlib.sha256(f"{platform.node()} {endpoint}".encode()).hexdigest()[:8]


def _model_facts(model: Ready) -> dict[str, Any]:
    return {
        "name": model.model,
        "weights": model.weights,
        "trained": model.trained,
        "space": model.space,
        "backend": model.backend,
        "device": model.device,
        "precision": model.precision,
        "agreement": model.agreement,
        "rejected": dict(model.rejected),
    }
