"""Faults of every kind that a daemon must survive, as functions that strike a live set at random.

Those of `SOURCES_AND_MODEL` stop vectors from coming; each says which streams it hits and when what was taken away was back.
Those of `OVERLOAD` must stop nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgpack
import zmq

from chaos.stage import STREAMS, Stage
from mertd.stream.endpoint import harden

EMBED_REST_S = 31.0
"""Seconds between two deaths of the embed process. After a shorter time it waits longer, by design, than a recovery may."""

CAPTURE_REST_S = 6.0
"""The same, for a capture process."""

CROWD = 200
"""Subscribers that come and go at once."""

REQUESTS = 200
"""Control requests at once."""

HOGS = 4
"""Processes that keep the processors busy."""


@dataclass
class Struck:
    """What has happened. `at_ns`: Unix time from which new vectors are new. `returned`: monotonic, from which recovery counts.

    `ended`: the epoch of each stream whose source was lost; its next vector must be of a later one.
    """

    streams: tuple[str, ...]
    at_ns: int
    returned: float
    ended: dict[str, int]


Strike = Callable[[Stage, random.Random], Struck]


@dataclass(frozen=True)
class Fault:
    """`target`: the process it hits (`embed`, `capture-…`), or `machine`, beside which nothing else is struck.

    `kills`: so that the process is replaced, and must first have lasted.
    """

    name: str
    target: str
    strike: Strike
    kills: bool = True

    @property
    def rest_s(self) -> float:
        """Seconds from the recovery until the target may be killed again."""
        if self.target == "machine":
            return 0.0
        return EMBED_REST_S if self.kills and self.target == "embed" else CAPTURE_REST_S


def signalled(stage: Stage, name: str, number: signal.Signals) -> int:
    """The process that got it."""
    pid = int(stage.daemon.ask_status().processes[name]["pid"])
    os.kill(pid, number)
    return pid


def capture_dies(stream: str, number: signal.Signals) -> Strike:
    """SIGKILL, or SIGSTOP until it is taken to hang."""

    def strike(stage: Stage, _: random.Random) -> Struck:
        began, ended = time.monotonic(), {stream: stage.client.struck(stream)}
        signalled(stage, f"capture-{stream}", number)
        return Struck((stream,), time.time_ns(), began, ended)

    return strike


def embed_dies(number: signal.Signals) -> Strike:
    """As above. Vectors of what was heard after that come from its successor."""

    def strike(stage: Stage, _: random.Random) -> Struck:
        began = time.monotonic()
        signalled(stage, "embed", number)
        return Struck(STREAMS, time.time_ns(), began, {})

    return strike


def pauses(name: str, shortest_s: float, longest_s: float) -> Strike:
    """Stopped and woken again, before anyone takes it to hang."""

    def strike(stage: Stage, chance: random.Random) -> Struck:
        pid = signalled(stage, name, signal.SIGSTOP)
        time.sleep(chance.uniform(shortest_s, longest_s))
        os.kill(pid, signal.SIGCONT)
        streams = STREAMS if name == "embed" else (name.removeprefix("capture-"),)
        return Struck(streams, time.time_ns(), time.monotonic(), {})

    return strike


def server_dies(stage: Stage, chance: random.Random) -> Struck:
    ended = {"room": stage.client.struck("room")}
    stage.server.kill()
    stage.unfurnish()
    time.sleep(chance.uniform(0.2, 2.0))
    stage.server.start()
    stage.furnish()
    return Struck(("room",), time.time_ns(), time.monotonic(), ended)


def sink_goes(stage: Stage, chance: random.Random) -> Struck:
    ended = {"room": stage.client.struck("room")}
    stage.server.remove_sink(stage.sink)
    stage.unfurnish()
    time.sleep(chance.uniform(1.5, 3.0))
    stage.furnish()
    return Struck(("room",), time.time_ns(), time.monotonic(), ended)


def default_moves(stage: Stage, _: random.Random) -> Struck:
    """Another source becomes the default, and the one that was is gone."""
    ended = {"room": stage.client.struck("room")}
    stage.move()
    return Struck(("room",), time.time_ns(), time.monotonic(), ended)


def server_stopped(shortest_s: float, longest_s: float, lost: bool) -> Strike:
    """For longer than a driver may give nothing, or not quite."""

    def strike(stage: Stage, chance: random.Random) -> Struck:
        ended = {"room": stage.client.struck("room")} if lost else {}
        stage.server.signal(signal.SIGSTOP)
        time.sleep(chance.uniform(shortest_s, longest_s))
        stage.server.signal(signal.SIGCONT)
        return Struck(("room",), time.time_ns(), time.monotonic(), ended)

    return strike


def source_suspended(stage: Stage, chance: random.Random) -> Struck:
    """For longer than a driver may give nothing."""
    ended = {"room": stage.client.struck("room")}
    stage.server.control("suspend-sink", stage.sink, "1")
    time.sleep(chance.uniform(3.0, 4.0))
    stage.server.control("suspend-sink", stage.sink, "0")
    return Struck(("room",), time.time_ns(), time.monotonic(), ended)


def source_muted(stage: Stage, chance: random.Random) -> Struck:
    """Silent windows, and then vectors again."""
    for mute, seconds in (("1", chance.uniform(1.5, 4.0)), ("0", 0.0)):
        stage.client.muted("room", mute == "1")
        stage.server.control("set-source-mute", f"{stage.sink}.monitor", mute)
        time.sleep(seconds)
    return Struck(("room",), time.time_ns(), time.monotonic(), {})


def writer_bursts(stage: Stage, chance: random.Random) -> Struck:
    stage.writer.stall(chance.uniform(0.1, 0.6), catch_up=True)
    return Struck(("radio",), time.time_ns(), time.monotonic(), {})


def writer_loses(stage: Stage, chance: random.Random) -> Struck:
    stage.writer.stall(chance.uniform(0.2, 1.5), catch_up=False)
    return Struck(("radio",), time.time_ns(), time.monotonic(), {})


def writer_changes(stage: Stage, chance: random.Random) -> Struck:
    ended = {"radio": stage.client.epoch("radio")}
    stage.writer.reopen(chance.uniform(0.5, 2.0))
    return Struck(("radio",), time.time_ns(), time.monotonic(), ended)


def processors_busy(_: Stage, chance: random.Random) -> Struck:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(HOGS)]
    try:
        time.sleep(chance.uniform(2.0, 4.0))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    return Struck(STREAMS, time.time_ns(), time.monotonic(), {})


SOURCES_AND_MODEL = [
    *(Fault(f"capture of {s} killed", f"capture-{s}", capture_dies(s, signal.SIGKILL)) for s in STREAMS),
    *(Fault(f"capture of {s} hangs", f"capture-{s}", capture_dies(s, signal.SIGSTOP)) for s in STREAMS),
    *(Fault(f"capture of {s} pauses", f"capture-{s}", pauses(f"capture-{s}", 0.2, 1.3), kills=False) for s in STREAMS),
    Fault("embed killed", "embed", embed_dies(signal.SIGKILL)),
    Fault("embed hangs", "embed", embed_dies(signal.SIGSTOP)),
    Fault("embed pauses for several hops", "embed", pauses("embed", 1.2, 2.2), kills=False),
    Fault("sound server killed and restarted", "capture-room", server_dies),
    Fault("sink removed and added", "capture-room", sink_goes),
    Fault("sound server hangs, and goes on", "capture-room", server_stopped(3.0, 4.0, lost=True)),
    Fault("sound server pauses", "capture-room", server_stopped(0.2, 1.3, lost=False), kills=False),
    Fault("default source moves", "capture-room", default_moves),
    Fault("source suspended and resumed", "capture-room", source_suspended),
    Fault("source muted and unmuted", "machine", source_muted, kills=False),
    Fault("writer stalls, then bursts", "capture-radio", writer_bursts, kills=False),
    Fault("writer stalls, and drops", "capture-radio", writer_loses, kills=False),
    Fault("writer changes", "capture-radio", writer_changes),
    Fault("processors busy with others", "machine", processors_busy, kills=False),
]


def crowd(stage: Stage, chance: random.Random) -> None:
    """Hundreds of subscribers come, and go without a word."""
    with zmq.Context() as context:
        sockets = []
        for _ in range(CROWD):
            subscriber = context.socket(zmq.SUB)
            harden(subscriber)
            subscriber.subscribe(chance.choice((b"", b"embedding/", b"event/room/", b"nothing")))
            subscriber.connect(stage.daemon.publish)
            sockets.append(subscriber)
        time.sleep(chance.uniform(0.1, 1.5))
        for subscriber in sockets:
            subscriber.close(linger=0)


def garbage(stage: Stage, chance: random.Random) -> None:
    """Bytes that are no ZeroMQ, or only begin as such, at both sockets."""
    host, port = stage.daemon.publish.removeprefix("tcp://").split(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    sockets = []
    for _ in range(20):
        if chance.random() < 0.5:
            peer = socket.create_connection((host, int(port)), 3)
        else:
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(stage.daemon.control.removeprefix("ipc://"))
        sockets.append(peer)
        head = chance.choice((b"", greeting, greeting[:10], b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 9))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it hangs up on such people, as it may
            peer.sendall(head + chance.randbytes(chance.choice((0, 1, 64, 5_000, 200_000))))
    time.sleep(chance.uniform(0.0, 1.0))
    for peer in sockets:
        peer.close()


def questions(stage: Stage, chance: random.Random) -> None:
    """Many requests at once, good and bad, whose answers nobody reads."""
    good = [msgpack.packb({"schema": 1, "request": "status"})]
    good += [msgpack.packb({"schema": 1, "request": "history", "kind": "embedding", "stream": "", "last": 256})]
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        harden(dealer)
        dealer.connect(stage.daemon.control)
        for _ in range(REQUESTS):
            request = chance.choice((*good, chance.randbytes(chance.choice((0, 10, 4_000, 5_000)))))
            dealer.send_multipart([b"", request] if chance.random() < 0.9 else [request])
        time.sleep(chance.uniform(0.0, 0.5))


def subscriber_frozen(stage: Stage, chance: random.Random) -> None:
    stage.onlooker.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(1.0, 8.0))
    stage.onlooker.send_signal(signal.SIGCONT)


def log_unread(stage: Stage, chance: random.Random) -> None:
    stage.daemon.reading.clear()
    time.sleep(chance.uniform(4.0, 12.0))
    stage.daemon.reading.set()


OVERLOAD: dict[str, Callable[[Stage, random.Random], None]] = {
    f"{CROWD} subscribers come and go": crowd,
    "garbage at both sockets": garbage,
    f"{REQUESTS} requests, good and bad": questions,
    "a subscriber frozen": subscriber_frozen,
    "the log not read": log_unread,
}
