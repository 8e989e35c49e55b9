"""More than it can bear: the daemon goes on, nobody else is slowed down, and what was lost is counted."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time

import psutil
import pytest
import zmq

from command_process import PATIENCE_S, complaints, mertd, wait_until
from daemon_process import TINY, Daemon
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.request import ask_page
from mertd.stream.server.history import PAGE_MESSAGES
from mertd.wire import Embedding, Event, Status, decode

LIVE = [*TINY, "--window", "1", "--hop", "0.25"]
CLIENTS = 1_000
THREADS = 4
AT_ONCE = 25
GROWTH_MB = 24


@pytest.mark.slow
def test_a_subscriber_that_stops_reading_misses_messages_and_nobody_else_does() -> None:
    """It sees the hole in `seq` when it wakes; the daemon counts that a queue ran full, and its history stays bounded."""
    fast = ["--pace", "fast", "--backend", "onnx", "--source", "synth:noise?seconds=36000&name=noise"]
    with Daemon(*LIVE, *fast) as daemon, zmq.Context() as context, context.socket(zmq.SUB) as sleeper:
        sleeper.linger = 0
        sleeper.rcvhwm = 1
        sleeper.rcvbuf = 4_096
        sleeper.subscribe("embedding/")
        sleeper.connect(daemon.publish)
        awake = Subscriber(daemon.publish, kinds=("embedding", "status"))
        dropped_at, last = 0, -1
        while not dropped_at or last < dropped_at + 200:
            received = awake.receive(PATIENCE_S)
            assert received is not None, "the one who reads is held up"
            assert received.lost == 0
            match received.message:
                case Embedding() as found:
                    last = found.seq
                    assert last < 20_000, "no queue ever ran full"
                case Status() as status if status.dropped and not dropped_at:
                    dropped_at = last
        awake.close()
        got: list[int] = []
        while not got or got[-1] <= last:  # it wakes, reads what was kept for it, and then what is new
            assert sleeper.poll(PATIENCE_S * 1000), "it gets nothing more"
            message = decode(sleeper.recv_multipart())
            assert isinstance(message, Embedding)
            got.append(message.seq)
        assert got == sorted(set(got))
        missed = got[-1] + 1 - len(got) - got[0]
        assert missed > 0, "it had room for all"
        print(f"dropped was counted at {dropped_at}; the sleeper missed {missed} of {got[-1] + 1}")
        page = ask_page(daemon.control, {"request": "history", "kind": "embedding", "stream": "", "last": 100_000})
        assert len(page.messages) == PAGE_MESSAGES
        assert page.more


@pytest.mark.slow
def test_a_thousand_subscribers_come_and_go() -> None:
    """Files, memory and the delay of others are afterwards what they were. Every one of them has received something."""
    with Daemon(*LIVE, "--source", "synth:chords", "--bind", "tcp://127.0.0.1:*") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 4)
        steady = Subscriber(daemon.publish)
        supervisor = psutil.Process(daemon.process.pid)
        before, memory = supervisor.num_fds(), supervisor.memory_info().rss
        received: list[int] = []

        def come_and_go(context: zmq.Context[zmq.Socket[bytes]]) -> None:
            for _ in range(CLIENTS // THREADS // AT_ONCE):
                sockets = [context.socket(zmq.SUB) for _ in range(AT_ONCE)]
                for socket in sockets:
                    socket.linger = 0
                    socket.subscribe("")
                    socket.connect(daemon.publish)
                for socket in sockets:
                    received.append(socket.poll(PATIENCE_S * 1000))
                    socket.close()

        with zmq.Context() as context:
            threads = [threading.Thread(target=come_and_go, args=(context,)) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
                assert not thread.is_alive()
        assert len(received) == CLIENTS
        assert all(received), f"{received.count(0)} received nothing"
        wait_until(lambda: supervisor.num_fds() <= before + 2, PATIENCE_S, lambda: f"{supervisor.num_fds()} files are open")
        grown = (supervisor.memory_info().rss - memory) / 1e6
        assert grown < GROWTH_MB
        print(f"{CLIENTS} subscribers: {supervisor.num_fds() - before:+d} files, {grown:+.1f} MB")
        due = daemon.status().streams["chords"]["due"]
        found = -1
        while found < due:
            message = steady.receive(PATIENCE_S)
            assert message is not None
            assert message.lost == 0
            assert isinstance(message.message, Embedding)
            found += 1 if found >= 0 else message.message.seq + 2
        assert time.time_ns() - message.message.time.end_ns < 10e9, "what is published is not stale"  # type: ignore[union-attr]
        steady.close()


@pytest.mark.slow
def test_windows_that_the_model_cannot_keep_up_with_are_skipped_counted_and_announced() -> None:
    """The model is frozen for some hops. On a machine so slow that it is replaced meanwhile, the same must hold."""
    with Daemon(*LIVE, "--source", "synth:chords") as daemon:
        subscriber = Subscriber(daemon.publish, kinds=("embedding", "event"))
        model = daemon.pid("embed")
        due = daemon.until(lambda s: s.streams["chords"]["embedded"] > 1).streams["chords"]["due"]
        os.kill(model, signal.SIGSTOP)
        daemon.until(lambda s: s.streams["chords"]["due"] >= due + 4)
        with contextlib.suppress(ProcessLookupError):
            os.kill(model, signal.SIGCONT)
        skipped = announced = 0
        while skipped < 2 or announced < skipped:
            received = subscriber.receive(PATIENCE_S)
            assert received is not None
            match received.message:
                case Embedding() as found:
                    skipped += found.skipped
                case Event(event="skipped") as event:
                    assert event.detail["reason"] == "late"
                    announced += event.detail["windows"]
        subscriber.close()
        assert daemon.status().streams["chords"]["skipped"] >= announced


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not hold to RLIMIT_AS")
def test_a_ring_that_does_not_fit_the_memory_is_an_error_that_says_so() -> None:
    """1 GB of addresses, of which an hour of sound takes 346 MB a stream."""
    sources = [word for name in "abcd" for word in ("--source", f"synth:chords?name={name}")]
    limit = (1 << 30, 1 << 30)
    done = mertd(
        *["run", *TINY, *sources, "--ring", 3600, "--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"],
        first=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert done.returncode == 3, done.stderr
    assert any("no memory for 3600 s of audio" in line and "--ring" in line for line in complaints(done.stderr)), done.stderr
