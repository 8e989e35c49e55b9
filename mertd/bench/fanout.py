"""Messages per second to many subscribers: mertd's publisher, and two bare pyzmq loops.

One bare loop sends the bytes of a message that was made before, again and again: what ZeroMQ itself takes. The other one packs
each message first, as a program without mertd has to. mertd also checks each message, and keeps it for those who come late.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgpack
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
    """Messages delivered per second, over all subscribers. `packing`: by pyzmq with each message packed first. Ratios: of mertd
    over the others, round by round.
    """

    subscribers: int
    mertd: Spread
    pyzmq: Spread
    packing: Spread
    ratio: Spread
    packing_ratio: Spread

    def as_json(self) -> dict[str, Any]:
        return {
            "subscribers": self.subscribers,
            "mertd_per_s": self.mertd.as_json(),
            "pyzmq_per_s": self.pyzmq.as_json(),
            "pyzmq_packing_per_s": self.packing.as_json(),
            "ratio": self.ratio.as_json(),
            "packing_ratio": self.packing_ratio.as_json(),
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

        def pack_and_send() -> None:
            for _ in range(MESSAGES):
                bare.send_multipart([frames[0], msgpack.packb(packed_by_hand(message))], zmq.NOBLOCK)
            to_theirs()

        contenders = {"mertd": send_ours, "pyzmq": send_theirs, "pyzmq that packs": pack_and_send}
        times = take_turns({f"{name} to {count} subscribers": send for name, send in contenders.items()}, runs, progress)
        if ours.dropped:
            raise EndpointError(f"{ours.dropped} messages were lost on the way: this machine is too slow for this measurement")
        ours.close()
    rates = [[count * MESSAGES / took for took in found] for found in times.values()]
    mine, bare_rates, packing = map(Spread.of, rates)
    ratio, packing_ratio = (Spread.of([a / b for a, b in zip(rates[0], other, strict=True)]) for other in rates[1:])
    return FanoutRow(count, mine, bare_rates, packing, ratio, packing_ratio)


def packed_by_hand(message: Embedding) -> dict[str, Any]:
    """Return the map of a message as a program writes it that has only msgpack."""
    window = message.window
    when = message.time
    audio = message.audio
    model = message.model
    latency = message.latency_ns
    return {
        "schema": 1,
        "kind": "embedding",
        "boot": message.boot,
        "daemon": message.daemon,
        "stream": message.stream,
        "epoch": message.epoch,
        "seq": message.seq,
        "window": {"start": window.start, "end": window.end, "rate": window.rate},
        "time": {
            "start_ns": when.start_ns,
            "end_ns": when.end_ns,
            "error_ns": when.error_ns,
            "drift_ppm": when.drift_ppm,
        },
        "audio": {
            "rms_dbfs": audio.rms_dbfs,
            "peak_dbfs": audio.peak_dbfs,
            "clipped": audio.clipped,
            "missing": audio.missing,
            "zeros": audio.zeros,
        },
        "model": {
            "name": model.name,
            "space": model.space,
            "weights": model.weights,
            "trained": model.trained,
            "layers": list(model.layers),
            "pooling": model.pooling,
            "backend": model.backend,
            "precision": model.precision,
        },
        "vector": {"dtype": "<f4", "shape": list(message.vector.shape), "data": message.vector.tobytes()},
        "latency_ns": {"wait": latency.wait, "embed": latency.embed, "total": latency.total},
        "skipped": message.skipped,
        "replay": message.replay,
    }


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
