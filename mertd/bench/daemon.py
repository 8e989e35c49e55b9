"""Measure what the daemon adds to the model: CPU, the cost of messages, and where the time of a window goes on its way."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq

from mertd.bench.fanout import example
from mertd.bench.measure import Spread, cpu_s, percentiles, resident_mb, take_turns
from mertd.bench.running import PATIENCE_S, DaemonProcess, sources
from mertd.config import Settings, load
from mertd.daemon.assembly import Outside, make_supervisor
from mertd.embed.messages import Answers, Request, Token
from mertd.errors import BackendError
from mertd.stream.endpoint import socket_folder
from mertd.wire import Embedding, Encoder, Event, decode

_SPAWN = multiprocessing.get_context("spawn")

TINY = {"weights": "random:0?size=tiny", "layers": (1,)}
"""Settings of a model that takes next to no time."""

STAGES = ("capture", "wait", "copy and levels", "embed", "hand-over", "held", "publish")
"""The stages of a window: from its last sample to the report of it; until the model is free; copied; embedded; on the way to
the supervisor; held until it is known to have been whole; on the way to a subscriber."""


@dataclass
class Notes:
    """What a daemon has done, by stream and first sample of a window. Times: monotonic nanoseconds, as in all processes."""

    ready: dict[tuple[str, int], int] = field(default_factory=dict)  # the embed process has the vector
    answered: dict[tuple[str, int], int] = field(default_factory=dict)  # the supervisor has it
    sent: dict[tuple[str, int], int] = field(default_factory=dict)  # handed to the publisher
    lateness: dict[tuple[str, int], int] = field(default_factory=dict)  # from the last sample's own time until then
    messages: dict[tuple[str, int], Embedding] = field(default_factory=dict)
    received: dict[tuple[str, int], list[int]] = field(default_factory=dict)  # by each subscriber


class Watcher:
    """Observes a daemon with all its processes, and stops it when it has published enough."""

    def __init__(self, windows: int) -> None:
        self.notes = Notes()
        self._windows = windows
        self._stop: Callable[[str], None] | None = None
        self._starts: dict[Token, int] = {}  # first sample of each requested window

    async def run(self, settings: Settings) -> None:
        """Run a daemon until it has published so many windows. Raises `BackendError` if it does not in time."""
        supervisor = make_supervisor(settings, Outside(observer=self))
        self._stop = supervisor.stop
        try:
            async with asyncio.timeout(PATIENCE_S):
                await supervisor.run()
        except TimeoutError:
            raise BackendError(f"the daemon did not publish enough in {PATIENCE_S:.0f} s") from None

    def submitting(self, requests: Sequence[Request]) -> None:
        """Remember which window each request is for."""
        self._starts |= {request.token: request.start for request in requests}

    def answered(self, answers: Answers) -> None:
        """Note when the vectors were there, and when the supervisor got them."""
        for answer in answers.answers:
            key = (answer.token.stream, self._starts.pop(answer.token))
            self.notes.ready[key] = answers.at_ns
            self.notes.answered[key] = time.monotonic_ns()

    def publishing(self, message: Embedding | Event) -> None:
        """Note when an embedding is handed to the publisher."""
        if isinstance(message, Embedding):
            key = (message.stream, message.window.start)
            self.notes.sent[key] = time.monotonic_ns()
            self.notes.lateness[key] = time.time_ns() - message.time.end_ns
            self.notes.messages[key] = message
        if len(self.notes.sent) >= self._windows and self._stop is not None:
            self._stop("enough was published")


def overhead(seconds: float, progress: Callable[[str], object]) -> dict[str, dict[str, float]]:
    """Return for each process but the model's: percent of one core over `seconds`, and resident megabytes at the end."""
    progress(f"one stream for {seconds:g} s")
    with DaemonProcess(*sources(1), "--weights", "random:0?size=tiny", "--layers", "1") as daemon:
        status = daemon.until(
            lambda s: s.phase == "running" and all(stream["samples"] > 48_000 for stream in s.streams.values())
        )
        pids = {name: facts["pid"] for name, facts in status.processes.items() if name != "embed"}
        start, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.perf_counter()
        time.sleep(seconds)
        elapsed = time.perf_counter() - began
        return {
            name: {"cpu_percent": 100 * (cpu_s(pid) - start[name]) / elapsed, "resident_mb": resident_mb(pid)}
            for name, pid in pids.items()
        }


def wire_us(runs: int) -> dict[str, Spread]:
    """Return the microseconds to encode, and to decode, one message with one layer of 768."""
    message = example()
    encoder = Encoder()
    frames = encoder.encode(message)

    def repeat(function: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(1_000):
                function()

        return call

    times = take_turns(
        {"encode": repeat(lambda: encoder.encode(message)), "decode": repeat(lambda: decode(frames))}, max(runs, 5)
    )
    return {name: Spread.of(taken, 1e3) for name, taken in times.items()}


def publish_path(windows: int, subscribers: int, progress: Callable[[str], object]) -> dict[str, dict[str, float]]:
    """Return the milliseconds from a vector in the embed process to each of several subscribers in other processes.

    The network is tiny, to get many windows; everything else is real. On the way, a window is held until capture's reports
    show that it was not overwritten. That time is counted apart: a slow model does not wait for it.
    """
    progress(f"{windows} windows to {subscribers} subscribers")
    settings = {**TINY, "window": 1.0, "hop": 0.25, "source": ("synth:chords",), "backend": "auto", "pace": "realtime"}
    notes = watch(settings, windows, subscribers)
    hand_over = {key: notes.answered[key] - ready for key, ready in notes.ready.items()}
    path = [(hand_over[key] + at - notes.sent[key]) / 1e6 for key, ats in notes.received.items() for at in ats]
    held = [(notes.sent[key] - notes.answered[key]) / 1e6 for key in notes.received]
    return {"vector ready to received": percentiles(path), "held until capture reports": percentiles(held)}


def journey(
    weights: str, layers: Sequence[int], window: float, windows: int, progress: Callable[[str], object]
) -> dict[str, Spread]:
    """Return the milliseconds that a window spends in each of `STAGES`, with the given network, in real time."""
    progress(f"{windows} windows of {window:g} s in real time")
    settings = {"weights": weights, "layers": tuple(layers), "window": window, "source": ("synth:chords",)}
    notes = watch(settings, windows, 1)
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    for key, ats in notes.received.items():
        latency = notes.messages[key].latency_ns
        ready = notes.ready[key]
        answered = notes.answered[key]
        sent = notes.sent[key]
        stages["capture"].append(max(0, notes.lateness[key] - latency.total))  # the clock's own error may exceed it
        stages["wait"].append(latency.wait)
        stages["copy and levels"].append(ready - latency.embed - latency.wait - (sent - latency.total))
        stages["embed"].append(latency.embed)
        stages["hand-over"].append(answered - ready)
        stages["held"].append(sent - answered)
        stages["publish"].append(min(ats) - sent)
    return {name: Spread.of(times, 1e-6) for name, times in stages.items()}


def watch(settings: dict[str, Any], windows: int, subscribers: int) -> Notes:
    """Run a daemon until so many windows were published, with subscribers in processes of their own. Return what happened."""
    with tempfile.TemporaryDirectory(prefix="mertd-", dir=socket_folder()) as folder:
        ends = {name: f"ipc://{Path(folder, name)}" for name in ("bind", "control")}
        watcher = Watcher(windows)
        with _listeners(ends["bind"], subscribers) as collect:
            asyncio.run(watcher.run(load(None, {**settings, **ends})))
            for receipts in collect():
                for stream, start, at in receipts:
                    watcher.notes.received.setdefault((stream, start), []).append(at)
    if not watcher.notes.received:
        raise BackendError("no message has reached the subscribers")
    return watcher.notes


@contextmanager
def _listeners(endpoint: str, count: int) -> Iterator[Callable[[], list[list[tuple[str, int, int]]]]]:
    """Start subscribers in processes of their own. Yield a function that ends them, and returns what each has received: stream,
    first sample and time of every message.
    """
    pipes, processes = [], []
    for _ in range(count):
        pipe, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_listen, args=(endpoint, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(pipe)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()

    def collect() -> list[list[tuple[str, int, int]]]:
        for pipe in pipes:
            pipe.send("over")
        return [pipe.recv() for pipe in pipes]

    try:
        yield collect
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.close()
            process.terminate()
            process.join()


def _listen(endpoint: str, pipe: Connection) -> None:
    """Be a subscriber: note when each message comes, and decode them only in the end."""
    receipts: list[tuple[int, list[bytes]]] = []
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger, socket.rcvhwm = 0, 0
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.subscribe("embedding/")
        socket.connect(endpoint)
        pipe.send("listening")
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(pipe.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if socket in ready:
                frames = socket.recv_multipart()
                receipts.append((time.monotonic_ns(), frames))
            elif ready:
                break
    found = [(at, decode(frames)) for at, frames in receipts]
    pipe.send([(m.stream, m.window.start, at) for at, m in found if isinstance(m, Embedding)])
