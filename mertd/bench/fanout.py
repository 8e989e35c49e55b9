"""Messages per second to many subscribers: mertd's publisher, and a bare pyzmq loop that sends the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import zmq

from mertd.bench.measure import Spread, take_turns
from mertd.errors import EndpointError
from mertd.stream.server.publisher import HIGH_WATER_MARK, Publisher
from mertd.wire import Audio, Embedding, Latency, Model, Span, Time, encode

_SPAWN = multiprocessing.get_context("spawn")
"""Starts processes that share nothing with this one."""

MESSAGES = HIGH_WATER_MARK // 2 - 50
"""Messages of one round. None is lost: half a queue always fits, as ZeroMQ learns after every half queue that it was read."""

PROCESSES = 2
"""Processes that the subscribers are shared out among."""

TIMEOUT_MS = 60_000
"""Milliseconds without a message after which a subscriber gives up."""


@dataclass(frozen=True)
class FanoutRow:
    """Messages delivered per second, over all subscribers. `ratio`: mertd over pyzmq, round by round."""

    subscribers: int
    mertd: Spread
    pyzmq: Spread
    ratio: Spread

    def as_json(self) -> dict[str, Any]:
        return {
            "subscribers": self.subscribers,
            "mertd_per_s": self.mertd.as_json(),
            "pyzmq_per_s": self.pyzmq.as_json(),
            "ratio": self.ratio.as_json(),
        }


def measure_fanout(counts: Sequence[int], runs: int, progress: Callable[[str], object]) -> list[FanoutRow]:
    """Return a row for each number of subscribers."""
    return [_row(count, runs, progress) for count in counts]


def _row(count: int, runs: int, progress: Callable[[str], object]) -> FanoutRow:
    message = example()
    frames = encode(message)
    with ExitStack() as stack:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, 0)
        ours = Publisher(context, "tcp://127.0.0.1:*")
        bare = context.socket(zmq.XPUB)
        bare.set_hwm(HIGH_WATER_MARK)
        theirs = f"tcp://127.0.0.1:{bare.bind_to_random_port('tcp://127.0.0.1')}"
        to_ours = stack.enter_context(_subscribers(ours.endpoint, count))
        to_theirs = stack.enter_context(_subscribers(theirs, count))
        subscribed(ours._bound.socket, count)
        subscribed(bare, count)

        def send_ours() -> None:
            for _ in range(MESSAGES):
                ours.send(message)
            to_ours()

        def send_theirs() -> None:
            for _ in range(MESSAGES):
                bare.send_multipart(frames, zmq.NOBLOCK)
            to_theirs()

        where = f"to {count} subscribers"
        times = take_turns({f"mertd {where}": send_ours, f"pyzmq {where}": send_theirs}, runs, progress)
        if ours.dropped:
            raise EndpointError(f"{ours.dropped} messages were lost on the way: this machine is too slow for this measurement")
        ours.close()
    mine, bare_times = times.values()
    rates = [[count * MESSAGES / took for took in found] for found in (mine, bare_times)]
    ratio = Spread.of([a / b for a, b in zip(*rates, strict=True)])
    return FanoutRow(count, Spread.of(rates[0]), Spread.of(rates[1]), ratio)


def example() -> Embedding:
    """Return a message as the daemon sends it, with one layer of 768."""
    vector = np.random.Generator(np.random.PCG64(0)).standard_normal((1, 768)).astype(np.float32)
    return Embedding(
        boot=bytes(range(16)),
        daemon="studio",
        stream="room",
        epoch=0,
        seq=12_345,
        window=Span(1_481_400_000, 1_482_120_000, 24_000),
        time=Time(1_760_000_000_000_000_000, 1_760_000_030_000_000_000, 2_000_000, 12.5),
        audio=Audio(-20.5, -3.25, 0, 0, 17),
        model=Model("MERT-v1-95M", "0123456789abcdef", "ab" * 32, True, (6,), "mean", "onnx", "float32"),
        vector=vector,
        latency_ns=Latency(1_000_000, 2_500_000_000, 2_510_000_000),
    )


@contextmanager
def _subscribers(endpoint: str, count: int) -> Iterator[Callable[[], None]]:
    """Start `count` subscribers in other processes. Yield a function that returns once each has all messages of a round."""
    shares = [share for i in range(PROCESSES) if (share := count // PROCESSES + (i < count % PROCESSES))]
    pipes, processes = [], []
    for share in shares:
        pipe, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_receive, args=(endpoint, share, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(pipe)
        processes.append(process)

    def all_received() -> None:
        for pipe in pipes:
            try:
                pipe.recv()
            except EOFError as error:
                raise EndpointError("a subscriber did not get all messages: the machine is too slow") from error

    try:
        yield all_received
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.close()
            process.terminate()
            process.join()


def _receive(endpoint: str, count: int, pipe: Connection) -> None:
    """Run a process with `count` subscribers, which reads rounds of messages, one socket after the other, and reports each."""
    with zmq.Context() as context:
        sockets = []
        for number in range(count):
            socket = context.socket(zmq.SUB)
            socket.linger = 0
            socket.rcvhwm = 0
            socket.rcvtimeo = TIMEOUT_MS
            socket.subscribe("embedding/")
            socket.subscribe(f"here/{os.getpid()}/{number}/")  # a publisher is told of a topic only once
            socket.connect(endpoint)
            sockets.append(socket)
        while True:
            for number, socket in enumerate(sockets):
                for received in range(MESSAGES):
                    # Between rounds it waits while other contenders have their turn.
                    while number == received == 0 and not socket.poll(TIMEOUT_MS):
                        pass
                    socket.recv_multipart()
            pipe.send(time.perf_counter())


def subscribed(socket: zmq.Socket[bytes], count: int, topic: bytes = b"here/") -> None:
    """Wait until `count` subscribers have subscribed to a topic."""
    while count:
        if not socket.poll(TIMEOUT_MS):
            raise EndpointError("subscribers did not connect in time")
        count -= socket.recv().startswith(b"\1" + topic)
