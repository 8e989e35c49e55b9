"""A daemon's control socket under malformed requests, one after the other: each is answered or cuts its client off."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import psutil
import zmq
from mutate import mutate

from command_process import PATIENCE_S
from daemon_process import SHORT, TINY, Daemon
from mertd.stream.request import ask
from mertd.stream.server.control_server import MAX_PARTS

VALID: list[dict[str, Any]] = [
    {"schema": 1, "request": "status"},
    {"schema": 1, "request": "history", "kind": "event", "stream": "", "last": 3},
    {
        "schema": 1,
        "request": "history",
        "kind": "embedding",
        "stream": "chords",
        "first": 2,
        "end": 5,
        "boot": bytes(16),
        "id": 7,
    },
    {"schema": 1, "request": "set", "stream": "chords", "hop": 0.5, "gate": -70.0},
    {"schema": 1, "request": "resume", "stream": "chords"},
]
ODD = [
    None,
    True,
    -1,
    0,
    1 << 63,
    -(1 << 63),
    1.5,
    float("nan"),
    "",
    "\0",
    "é" * 100,
    b"\xff",
    [],
    [[]],
    {},
    {"a": 1},
    "status",
]
LONGEST = 4_000
"""Bytes; longer requests are not read, and so not answered."""

MAX_FRAMES = MAX_PARTS - 1
"""Frames of a request; a client that sends more is cut off. libzmq puts the client's id in front of them."""

ALLOWED = 50
GROWTH_MB = 16


def request(chance: random.Random) -> list[bytes]:
    """Frames as a client may send them, wrong in their number, bytes, keys or values."""
    body = dict(chance.choice(VALID))
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            body[chance.choice([*body, "last", "kind", "x"])] = chance.choice(ODD)
        if chance.random() < 0.3:
            del body[chance.choice(list(body))]
        data = msgpack.packb(body)
    else:
        data = mutate(msgpack.packb(body), chance)[:LONGEST]
    if chance.random() < 0.9:
        return [b"", data]
    return [chance.choice((b"", b"x", data)) for _ in range(chance.randint(1, 5))]


def expect_cut_off(context: zmq.Context[zmq.Socket[bytes]], control: str, frames: list[bytes]) -> None:
    """Send them as a client of its own, and fail if the daemon does not end the connection."""
    with context.socket(zmq.DEALER) as socket, socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
        socket.linger = 0
        socket.connect(control)
        socket.send_multipart(frames)
        assert monitor.poll(PATIENCE_S * 1000), f"the connection is still open after {frames}"
        socket.disable_monitor()


def fuzz_control(runs: int, seed: int) -> int:
    """How many of `runs` requests the daemon took for right. Fails if one gets no answer, or if memory or files grow."""
    accepted = 0
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon, zmq.Context() as context:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        supervisor = psutil.Process(daemon.process.pid)
        before = (supervisor.num_fds(), supervisor.memory_info().rss)
        socket = context.socket(zmq.DEALER)
        try:
            for run in range(runs):
                if run % ALLOWED == 0:  # a new client, because one that asks too often is refused unread
                    socket.close()
                    socket = context.socket(zmq.DEALER)
                    socket.linger = 0
                    socket.connect(daemon.control)
                frames = request(random.Random(f"{seed} {run}"))
                if len(frames) > MAX_FRAMES:
                    expect_cut_off(context, daemon.control, frames)
                    continue
                socket.send_multipart(frames)
                assert socket.poll(PATIENCE_S * 1000), f"no answer to seed {seed}, run {run}: {frames}"
                answer = msgpack.unpackb(socket.recv_multipart()[-1])
                assert answer["ok"] is True or (answer["ok"] is False and answer["error"]), answer
                accepted += answer["ok"]
        finally:
            socket.close()
        ask(daemon.control, {"request": "set", "hop": 0.5, "gate": -70.0})
        reached = daemon.status().streams["chords"]["embedded"]
        status = daemon.until(lambda s: s.streams["chords"]["embedded"] > reached)  # and the work goes on
        assert status.processes["embed"]["restarts"] == 0
        assert supervisor.num_fds() <= before[0] + 2
        assert supervisor.memory_info().rss - before[1] < GROWTH_MB << 20
    return accepted
