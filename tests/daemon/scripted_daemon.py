"""Streams, an embed worker and requests, put together without a process or a socket: tests say what each process reports."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from daemon.simulation import BOOT, LEVELS, MODEL, RATE
from mertd.capture.address import parse
from mertd.capture.clock import ClockReading
from mertd.capture.clock_pair import ClockPair
from mertd.capture.reports import Committed, Opened, Stop
from mertd.daemon.audio_stream import Stream, StreamOptions
from mertd.daemon.clocks import EpochClocks
from mertd.daemon.composer import Composer, Origin
from mertd.daemon.embed_worker import EmbedWorker
from mertd.daemon.model_reports import ModelReports
from mertd.daemon.notify import Notifier
from mertd.daemon.observer import NoObserver
from mertd.daemon.requests import Requests
from mertd.daemon.run_state import RunState
from mertd.daemon.streams import Streams
from mertd.daemon.timeline import Timeline
from mertd.embed.messages import Answer, Answers, Copied, Ready, Request
from mertd.embed.model_settings import ModelSettings
from mertd.processes.managed import ManagedProcess
from mertd.ring import Ring
from mertd.stream.server.history import History
from mertd.windows import Late, Schedule
from mertd.wire import Embedding, Event, Status, decode, encode
from messages import status
from processes.scripted_run import ScriptedSpawn

WINDOW = 1_000
HOP = 500
MAX_BATCH = 4


class ScriptedDaemon:
    """Made in a running event loop. `published`: all messages of the streams."""

    def __init__(
        self,
        *addresses: str,
        realtime: bool = True,
        exit_at_end: bool = False,
        state: RunState | None = None,
        start: bool = True,
    ) -> None:
        """`start`: its processes; otherwise a supervisor does that."""
        self.state = state or RunState()
        self.streams = Streams(self.state, exit_at_end, lambda: 7)
        self.published: list[Embedding | Event] = []
        self.history = History()
        self.model = ScriptedSpawn()
        self.captures: dict[str, ScriptedSpawn] = {}
        self.rings: dict[str, Ring] = {}
        reports = ModelReports(self.streams, self.state, Notifier({}), NoObserver())
        self.worker = EmbedWorker(ModelSettings("random:0", (6,), "auto", WINDOW), self.rings, reports, self.model)
        self.streams.dispatcher.attach(self.worker)
        self.requests = Requests(BOOT, self.streams, self.state, self.history, self.status)
        for address in addresses:
            self._add(address, realtime, exit_at_end)
        if start:
            self.worker.process.start()
            for stream in self.streams.values():
                stream.start()

    def _add(self, url: str, realtime: bool, once: bool) -> None:
        address = parse(url)
        ring = self.rings[address.name] = Ring(4 * WINDOW)
        clocks = EpochClocks(RATE, 60, lambda: 1)
        composer = Composer(Origin(BOOT, "studio", address.name), clocks, lambda message: self.publish(message))
        timeline = Timeline(address.name, Schedule(WINDOW, HOP, Late.QUEUE, ring.capacity), ring, -70.0, clocks, composer)
        spawn = self.captures[address.name] = ScriptedSpawn(obeys=Stop)
        options = StreamOptions(realtime, once)
        self.streams[address.name] = Stream(address, options, ring, timeline, self.streams, spawn)

    def publish(self, message: Embedding | Event) -> None:
        frames = encode(message)
        self.history.add(message, frames)
        copy = decode(frames)
        assert isinstance(copy, Embedding | Event)
        self.published.append(copy)
        self.requests.published(message)

    def status(self) -> Status:
        return status()

    # Capture

    def capture(self, name: str) -> Any:
        """The newest run of the capture process of a stream."""
        return self.captures[name].run

    async def opened(self, name: str) -> None:
        """The source of a stream is open."""
        await asyncio.sleep(0)
        self.capture(name).report(Opened("a source", 48_000, 2))

    def wrote(self, name: str, samples: int) -> None:
        """So many more samples are in the ring."""
        end = self.streams[name].timeline.end + samples
        ns = end * 1_000_000_000 // RATE
        self.capture(name).report(Committed(end, 2**62, (ClockReading(end, ClockPair(ns, ns), exact=True),)))

    async def exits(self, process: ManagedProcess, run: Any, how: str = "crashed") -> None:
        """A run ends; all that follows from this at once has followed on return."""
        run.end(how)
        for _ in range(10):
            await asyncio.sleep(0)
        assert process.pid != run.pid

    # Embed

    async def model_ready(self, batches: int = 1) -> None:
        """The model is loaded. `batches`: that its process is given at a time."""
        await asyncio.sleep(0)
        self.model.run.report(Ready(MODEL, MAX_BATCH, batches))

    @property
    def batches(self) -> list[tuple[Request, ...]]:
        """All that the newest embed process was given."""
        return list(self.model.run.sent)

    def answer(self, batch: tuple[Request, ...]) -> None:
        """The embed process copies and embeds a batch."""
        run = self.model.run
        run.report(Copied(tuple(request.token for request in batch), 1))
        vector = np.ones((1, 2), np.float32)
        run.report(Answers(tuple(Answer(request.token, LEVELS, vector, 5) for request in batch), 1))

    # What came of it

    def events(self, stream: str) -> list[str]:
        """Names of all its events."""
        return [message.event for message in self.published if isinstance(message, Event) and message.stream == stream]

    def detail(self, stream: str, name: str) -> dict[str, Any]:
        """Of the newest event of that name."""
        found = [m for m in self.published if isinstance(m, Event) and (m.stream, m.event) == (stream, name)]
        return dict(found[-1].detail)

    def embedded(self, stream: str) -> list[int]:
        """First samples of the windows that were embedded."""
        return [m.window.start for m in self.published if isinstance(m, Embedding) and m.stream == stream]

    async def close(self) -> None:
        """Stop everything."""
        await asyncio.gather(self.worker.stop(), *(stream.stop() for stream in self.streams.values()))
        for ring in self.rings.values():
            ring.close()
