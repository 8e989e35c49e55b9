"""Many clients, clients that sleep, late ones and bad ones, on real daemons; every message of every client accounted for.

Run: PYTHONPATH=tests python tests/soak/clients.py [--frozen 60] [--malformed 100000] [--subscribers 1000]
Fails if a client misses a message or has one twice, or if the daemon grows or neglects others.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import msgpack
import psutil
import zmq

from command_process import PATIENCE_S, running
from daemon_process import TINY, Daemon
from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Embedding, decode

STREAMS = 8
"""A window every quarter of a second each: 32 messages a second, a third more than are asked for, so that queues overrun."""

GROWTH_MB = 16.0
"""Megabytes by which the daemon may grow."""

SHORT = ["--window", "1", "--hop", "0.25", "--backend", "onnx"]

FOLLOWER = """
import sys, mertd
publish, control, path = sys.argv[1:]
with mertd.subscribe(publish, control=control) as subscriber, open(path, "w", buffering=1) as file:
    for message in subscriber:
        file.write(f"{message.stream} {message.seq} {subscriber.recovered} {subscriber.lost}\\n")
"""
"""A client in a process of its own, which notes what it gets."""


def sources(count: int) -> list[str]:
    return [word for number in range(count) for word in ("--source", f"synth:chords?name=s{number}")]


def frozen_and_late(seconds: float) -> None:
    """A client is stopped for a while, and another one comes when it has been woken."""
    with tempfile.TemporaryDirectory() as folder, Daemon(*TINY, *SHORT, *sources(STREAMS)) as daemon:
        daemon.until(lambda s: all(stream["embedded"] for stream in s.streams.values()))
        path = Path(folder, "noted")
        command = [sys.executable, "-c", FOLLOWER, daemon.publish, daemon.control, str(path)]
        with running(command) as follower:
            while len(noted(path)) < 4 * STREAMS:
                time.sleep(0.1)  # between looks
            follower.send_signal(signal.SIGSTOP)
            memory = resident_mb(daemon.process.pid)
            before = daemon.status()
            time.sleep(seconds)  # the length of the nap
            after = daemon.status()
            grown = resident_mb(daemon.process.pid) - memory
            follower.send_signal(signal.SIGCONT)
            ends = {name: stream["embedded"] for name, stream in after.streams.items()}
            deadline = time.monotonic() + PATIENCE_S
            while any(last(path).get(name, -1) < end for name, end in ends.items()):
                assert time.monotonic() < deadline, "it does not catch up"
                time.sleep(0.1)  # between looks
            follower.kill()
        slept = sum(ends[name] - before.streams[name]["embedded"] for name in ends)
        found = noted(path)
        recovered, lost = int(found[-1][2]), int(found[-1][3])
        assert after.dropped > 0, "its queue never ran full: the nap was too short"
        assert recovered > 0
        assert lost == 0
        unbroken([(name, int(seq)) for name, seq, *_ in found], "the frozen client")
        print(f"frozen for {seconds:.0f} s, {slept} messages long: {recovered} fetched from the history, none lost or repeated")
        print(f"the daemon grew by {grown:.1f} MB meanwhile, of which the history is a part")

        with Subscriber(daemon.publish, control=daemon.control, last=1_000_000) as late:
            seen: list[tuple[str, int]] = []
            final = {name: stream["embedded"] for name, stream in daemon.status().streams.items()}
            reached: dict[str, int] = {}
            while any(reached.get(name, -1) < end + 4 for name, end in final.items()):
                received = late.receive(PATIENCE_S)
                assert received is not None
                assert received.lost == 0
                assert isinstance(received.message, Embedding)
                seen.append((received.message.stream, received.message.seq))
                reached[received.message.stream] = received.message.seq
        unbroken(seen, "the late client")
        assert {name: min(seq for stream, seq in seen if stream == name) for name in final} == dict.fromkeys(final, 0)
        print(f"a late client: all {len(seen)} messages since the first, none missing or repeated")


def malformed(count: int) -> None:
    """One client sends nothing but nonsense; another one is served, a third one misses nothing, and memory stays."""
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon, zmq.Context() as context:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        memory, waits, over = resident_mb(daemon.process.pid), [], threading.Event()

        def ask() -> None:
            while not over.wait(0.2):
                began = time.monotonic()
                assert daemon.status().phase == "running"
                waits.append(time.monotonic() - began)

        asking = threading.Thread(target=ask)
        with Subscriber(daemon.publish) as subscriber, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(daemon.control)
            asking.start()
            began, answered, sent = time.monotonic(), 0, 0
            nonsense = [b"\xc1", msgpack.packb([1]), msgpack.packb({"schema": 1, "request": "x" * 3_000}), b"\x91" * 500]
            received = 0
            while answered < count:
                while sent < count and sent - answered < 500:
                    socket.send(nonsense[sent % len(nonsense)])
                    sent += 1
                assert socket.poll(PATIENCE_S * 1000), "no answer"
                assert msgpack.unpackb(socket.recv())["ok"] is False
                answered += 1
                while (message := subscriber.receive(0)) is not None:
                    received += 1
                    assert message.lost == 0
            took = time.monotonic() - began
        over.set()
        asking.join()
        status = daemon.status()
        assert waits
        assert received > took, "embeddings went on"
        assert status.streams["chords"]["skipped"] == 0
        grown = resident_mb(daemon.process.pid) - memory
        assert grown < GROWTH_MB
        print(
            f"{count} malformed requests in {took:.0f} s, each refused; meanwhile {received} embeddings, none lost or skipped; "
            f"{len(waits)} questions of another client, answered in at most {max(waits):.2f} s; {grown:+.1f} MB"
        )


def subscribers(count: int, seconds: float = 30.0) -> None:
    """All 13 states of the full network once a second, to so many."""
    layers = ",".join(map(str, range(13)))
    full = ["--weights", "random:0", "--layers", layers, "--window", "1", "--hop", "1", "--source", "synth:chords"]
    with Daemon(*full, endpoints=("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")) as daemon, zmq.Context() as context:
        daemon.bound()
        context.set(zmq.MAX_SOCKETS, count + 10)
        got: dict[int, list[int]] = defaultdict(list)
        sockets, poller = [], zmq.Poller()
        for _ in range(count):
            socket = context.socket(zmq.SUB)
            socket.linger = 0
            socket.subscribe("embedding/")
            socket.connect(daemon.publish)
            poller.register(socket, zmq.POLLIN)
            sockets.append(socket)
        number = {socket: n for n, socket in enumerate(sockets)}
        began: float | None = None
        while began is None or time.monotonic() - began < seconds:
            for socket, _ in poller.poll(PATIENCE_S * 1000):
                message = decode(socket.recv_multipart())
                assert isinstance(message, Embedding)
                assert message.vector.shape == (13, 768)
                got[number[socket]].append(message.seq)
            if began is None and len(got) == count:
                began = time.monotonic()
        ends = [seqs[-1] for seqs in got.values()]
        for seqs in got.values():
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "a message is missing or repeated"
        assert max(ends) - min(ends) <= 1
        status = daemon.status()
        assert status.dropped == 0
        print(
            f"{count} subscribers, 13 x 768, {len(got[0])} messages to the first: none missed one; "
            f"{status.streams['chords']['skipped']} windows skipped"
        )
        for socket in sockets:
            socket.close()


def noted(path: Path) -> list[list[str]]:
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [line.split() for line in lines]


def last(path: Path) -> dict[str, int]:
    return {name: int(seq) for name, seq, *_ in noted(path)}


def unbroken(found: list[tuple[str, int]], who: str) -> None:
    """Each stream without a hole, a repetition or a message out of order."""
    of: dict[str, list[int]] = defaultdict(list)
    for name, seq in found:
        of[name].append(seq)
    for name, seqs in of.items():
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), f"{who} has a hole or a repetition in {name}"


def resident_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frozen", type=float, default=60.0, help="seconds")
    parser.add_argument("--malformed", type=int, default=100_000)
    parser.add_argument("--subscribers", type=int, default=1_000)
    options = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    frozen_and_late(options.frozen)
    malformed(options.malformed)
    subscribers(options.subscribers)


if __name__ == "__main__":
    main()
