"""Attacks by a server on the client library, and a daemon that dies while its client naps.

What is measured is the client: a process of its own that must not abort, and its memory. The beat, `status` and SIGTERM are the
daemon's and so not measured. A server can fill the memory of a client that listens to it: libzmq limits the size of a part, but
not the number of parts, nor the bytes that wait. For these attacks the growth is shown, and not judged.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from attacks import hostile_server
from attacks.hostile_server import Behaviour, HostileServer
from attacks.target import MANY_SOURCES, Attack
from attacks.trial import MAX_GROWTH_MB, Row
from attacks.victim import Victim

NAP_S = 2.0
"""Seconds for which the client does not read, after its first message."""

START_S = 3.0
"""Seconds that the client's process may take to start."""

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Client:
    """How a client's process ended. `peak_mb`: how much its memory grew."""

    code: int
    seen: dict[str, int]
    growth_mb: float


def run_client(publish: str, control: str, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> Client:
    """Run the client program for `seconds`; `meanwhile` is called when half of its nap is over."""
    words = [sys.executable, "-m", "attacks.client_program", publish, control, str(seconds), str(NAP_S)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
        watched = psutil.Process(process.pid)
        began = time.monotonic()
        sizes: list[float] = []
        called = False
        while process.poll() is None and time.monotonic() < began + PATIENCE_S:
            try:
                sizes.append(watched.memory_info().rss / 1e6)
            except psutil.Error:
                break
            if not called and time.monotonic() > began + START_S:
                called = True
                meanwhile()
            time.sleep(0.02)
        process.kill()
        output, _ = process.communicate()
    started = [size for size in sizes if size > 0]
    settled = max(started[: round(0.5 / 0.02)], default=0.0)
    seen = json.loads(output) if process.returncode == 0 else {}
    return Client(process.returncode, seen, max(0.0, max(started, default=0.0) - settled))


def judged(name: str, client: Client, max_growth_mb: float = MAX_GROWTH_MB) -> Row:
    row = Row(name, lives=client.code == 0, growth_mb=client.growth_mb, max_growth_mb=max_growth_mb)
    if client.code:
        row.wrong.append(f"the client ended with {client.code}")
    return row


def attacked(
    name: str, publish: Behaviour, control: Behaviour = hostile_server.garbage, max_growth_mb: float = MAX_GROWTH_MB
) -> Callable[[float], Row]:
    """Return a trial of a client against a hostile server."""

    def trial(seconds: float) -> Row:
        with HostileServer(b"PUB", publish) as publisher, HostileServer(b"REP", control) as answerer:
            return judged(name, run_client(publisher.endpoint, answerer.endpoint, seconds + NAP_S), max_growth_mb)

    return trial


def daemon_dies(seconds: float) -> Row:
    """A daemon with many streams is killed while its client naps; the client must live, and notice."""
    attack = Attack("client: daemon killed", (), sources=MANY_SOURCES, hop_s=0.5)
    victim = Victim(attack)
    with victim:
        client = run_client(victim.publish, victim.control, seconds + START_S + NAP_S, lambda: kill(victim))
        victim.traces.forget_lock()
        row = judged(attack.name, client)
        if not client.seen.get("messages"):
            row.wrong.append("the client received nothing")
    return row


def kill(victim: Victim) -> None:
    os.kill(victim.process.pid, signal.SIGKILL)


TRIALS: dict[str, Callable[[float], Row]] = {
    "client: frames of 500 MB": attacked("client: frames of 500 MB", hostile_server.huge_frames),
    "client: answers of 500 MB": attacked("client: answers of 500 MB", hostile_server.with_holes, hostile_server.huge_answers),
    "client: garbage": attacked("client: garbage", hostile_server.garbage),
    "client: PINGs, then reset": attacked("client: PINGs, then reset", hostile_server.pings_then_reset),
    "client: endless parts": attacked("client: endless parts", hostile_server.endless_parts, max_growth_mb=math.inf),
    "client: large messages": attacked("client: large messages", hostile_server.large_messages, max_growth_mb=math.inf),
    "client: daemon killed": daemon_dies,
}
