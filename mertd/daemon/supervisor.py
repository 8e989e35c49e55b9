"""The daemon: binds the sockets, owns the processes, carries windows from one to the other and publishes what comes back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import zmq
import zmq.asyncio

from mertd import __version__
from mertd.child import Inherited
from mertd.config import Settings, weights_spec
from mertd.daemon.embedding import Embedding
from mertd.daemon.listening import Listening
from mertd.daemon.timeline import Timeline
from mertd.embed.architecture import SAMPLE_RATE
from mertd.embed.messages import Answers, Copied, Ready, Request
from mertd.embed.settings import ModelSettings
from mertd.errors import EndpointError, MertdError, WireError
from mertd.ring import Ring
from mertd.stream.control import ControlServer
from mertd.stream.publisher import Publisher
from mertd.windows import Schedule
from mertd.wire import Status, encode

log = logging.getLogger(__name__)

STATUS_S = 1.0
LINGER_S = 0.5
"""How long the last messages may take to leave."""


class StartError(MertdError):
    """The daemon could not start or cannot go on; carries the exit code of whatever stopped it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class Supervisor:
    """One run of the daemon. `run` returns when it has stopped in order, and raises when something stopped it."""

    def __init__(self, settings: Settings) -> None:
        """Raises `WeightsError` if there are no weights to run with. Allocates nothing yet."""
        self._settings = settings
        self._model_settings = ModelSettings(
            weights_spec(settings), settings.layers, settings.backend, settings.window_samples, settings.gate
        )
        self._boot = secrets.token_bytes(16)
        self._started_ns = time.monotonic_ns()
        self._phase = "starting"
        self._reason = "asked to"
        self._failure: StartError | None = None
        self._turn = 0

    async def run(self) -> None:
        """Start, serve until told to stop or there is nothing left to do, stop. Raises `MertdError` if it could not go on."""
        self._stop = asyncio.Event()
        with _Signals(self._stop.set), zmq.asyncio.Context() as context:
            self._bind(context)
            tasks = []
            try:
                self._start()
                tasks = [asyncio.create_task(self._control.serve()), asyncio.create_task(self._beat())]
                await self._stop.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await self._shut_down()
        if self._failure is not None:
            raise self._failure

    # Life

    def _bind(self, context: zmq.asyncio.Context) -> None:
        self._sync_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher = Publisher(self._sync_context, self._settings.bind)
        try:
            self._control = ControlServer(context, self._settings.control, self._answer)
        except EndpointError:
            self._publisher.close()
            raise

    def _start(self) -> None:
        settings, tokens = self._settings, itertools.count()
        rings: dict[str, Ring] = {}
        self._streams: dict[str, Listening] = {}
        log.info("publishing on %s, control on %s", self._publisher.endpoint, self._control.endpoint)
        for address in settings.addresses:
            ring = rings[address.name] = Ring(settings.ring_samples)
            timeline = Timeline(
                name=address.name,
                boot=self._boot,
                rate=SAMPLE_RATE,
                schedule=Schedule(settings.window_samples, settings.hop_samples, settings.late_policy, ring.capacity),
                ring=ring,
                layers=settings.layers,
                tokens=tokens,
                unix_ns=time.time_ns,
                publish=self._publisher.send,
            )
            realtime = settings.pace == "realtime"
            self._streams[address.name] = Listening(address, realtime, settings.exit_at_end, ring, timeline, self)
        self._rings = rings
        self._embedding = Embedding(self._model_settings, rings, self)
        self._embedding.start()
        for stream in self._streams.values():
            stream.start(Inherited(sys.stdin.fileno()) if stream.address.is_stdin else None)

    async def _beat(self) -> None:
        """Once a second: publish the status, look for processes that hang."""
        while True:
            self._publisher.send(self.status())
            self._publisher.forget_subscriptions()
            self._embedding.watch()
            for stream in self._streams.values():
                stream.watch()
            await asyncio.sleep(STATUS_S)

    async def _shut_down(self) -> None:
        self._phase = "stopping"
        log.info("stopping: %s", self._reason)
        for stream in self._streams.values():
            stream.timeline.event("stopping", reason=self._reason)
        self._publisher.send(self.status())
        await asyncio.gather(self._embedding.stop(), *(stream.stop() for stream in self._streams.values()))
        for ring in self._rings.values():
            ring.close()
        self._control.close()
        self._publisher.close(LINGER_S)
        self._sync_context.term()

    # What streams report

    def progress(self) -> None:
        """Give the model its next batch, if it is free; let captures at fast pace go on; see whether all is done."""
        self._dispatch()
        for stream in self._streams.values():
            stream.grant()
        everything_heard = all(stream.is_over and not stream.timeline.waiting for stream in self._streams.values())
        broken = [stream for stream in self._streams.values() if stream.state == "failed"]
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
        model = self._embedding.model
        if model is None or not self._embedding.idle or self._phase == "stopping":
            return
        streams = list(self._streams.values())
        self._turn = (self._turn + 1) % len(streams)
        batch: list[Request] = []
        for stream in streams[self._turn :] + streams[: self._turn]:
            if len(batch) < model.max_batch:
                batch += stream.timeline.take(model.max_batch - len(batch), time.monotonic_ns())
        if batch:
            self._embedding.submit(batch)

    # What the model reports

    def model_ready(self, model: Ready, previous: Ready | None) -> None:
        """The model can embed; announced if it is not the backend that was wanted, or not the one that was."""
        self._phase = "running"
        if model.rejected or (previous is not None and previous.backend != model.backend):
            for stream in self._streams.values():
                stream.timeline.event(
                    "backend_changed",
                    backend=model.backend,
                    previous=previous.backend if previous else "",
                    rejected=dict(model.rejected),
                )
        self.progress()

    def copied(self, message: Copied) -> None:
        """The windows of a batch are out of the ring."""
        for stream in self._streams.values():
            for token in message.tokens:
                stream.timeline.copied(token, message.at_ns)

    def answered(self, message: Answers, model: Ready) -> None:
        """Vectors, or silence."""
        for stream in self._streams.values():
            for answer in message.answers:
                stream.timeline.answered(answer, model, time.monotonic_ns())
        self.progress()

    def model_lost(self) -> None:
        """The embed process has died: its windows wait for the next one."""
        for stream in self._streams.values():
            stream.timeline.embed_lost()

    # What clients ask

    def status(self) -> Status:
        """All counters, now."""
        model = self._embedding.model
        return Status(
            boot=self._boot,
            time_ns=time.time_ns(),
            uptime_ns=time.monotonic_ns() - self._started_ns,
            version=__version__,
            phase=self._phase,
            model=_model_facts(model) if model else {},
            streams={
                name: {
                    "state": stream.state,
                    "source": str(stream.address),
                    "description": stream.description,
                    "problem": stream.problem,
                    "restarts": stream.restarts,
                    **stream.timeline.counters,
                }
                for name, stream in self._streams.items()
            },
            processes={
                "supervisor": {"pid": os.getpid(), "restarts": 0},
                "embed": {"pid": self._embedding.pid or 0, "restarts": self._embedding.restarts},
                **{f"capture-{n}": {"pid": s.pid or 0, "restarts": s.restarts} for n, s in self._streams.items()},
            },
            published=self._publisher.published,
            dropped=self._publisher.dropped,
        )

    def _answer(self, request: Mapping[str, Any]) -> list[list[bytes]]:
        match request:
            case {"request": "status"}:
                return [encode(self.status())]
            case {"request": "replay", "kind": "embedding" | "event" as kind, "stream": str() as stream, "last": int() as last}:
                if stream and stream not in self._streams:
                    raise WireError(f"no stream {stream!r}, only {', '.join(self._streams)}")
                return self._publisher.replay(kind, stream, last)
        raise WireError(f"request {request.get('request')!r} is not known or not complete; known are status and replay")


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


class _Signals:
    """Within, SIGINT and SIGTERM call `stop`; after, they do what they did before."""

    def __init__(self, stop: Any) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
