"""A real daemon's control socket under malformed requests, one after the other: each is answered, and nothing breaks."""

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
