"""A running daemon does what it is told over its control socket, and says so to everybody."""

from __future__ import annotations

import itertools
import time
from typing import Any

import msgpack
import pytest
import zmq

from command_process import mertd
from daemon_process import SHORT, TINY, Daemon
from mertd.errors import EndpointError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.request import ask
from mertd.wire import Embedding, Event, Message

PATIENCE_S = 60.0


def receive(subscriber: Subscriber, event: str) -> Event:
    """The next event of this name."""
    deadline = time.monotonic() + PATIENCE_S
    while (received := subscriber.receive(deadline - time.monotonic())) is not None:
        if isinstance(received.message, Event) and received.message.event == event:
            return received.message
    raise AssertionError(f"no event {event!r}")


def request(daemon: Daemon, name: str, **words: Any) -> list[Message]:
    return ask(daemon.control, {"request": name, **words}, PATIENCE_S)


@pytest.mark.slow
def test_what_can_be_asked_of_a_stream() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--source", "synth:tone?name=other", "--name", "attic") as daemon:
        daemon.until(lambda s: s.phase == "running" and s.streams["chords"]["embedded"] > 0)
        with Subscriber(daemon.publish, ("chords",), ("embedding", "event"), control=daemon.control, last=1) as subscriber:
            # One window at once.
            (now,) = request(daemon, "now", stream="chords")
            assert isinstance(now, Embedding)
            assert (now.daemon, now.stream) == ("attic", "chords")
            assert now.window.end - now.window.start == now.window.rate

            # Another hop, another gate.
            (change,) = request(daemon, "set", stream="chords", hop=0.25, gate=-1.0)
            assert isinstance(change, Event)
            assert (change.event, change.detail) == ("changed", {"hop_s": 0.25, "gate_dbfs": -1.0})
            silent = [receive(subscriber, "silent") for _ in range(4)]
            apart = {b.index - a.index for a, b in itertools.pairwise(silent[1:])}
            assert apart <= {n * 6_000 for n in range(1, 40)}, "hops of a quarter of a second; late ones are left out"
            request(daemon, "set", gate=-70)

            # Nothing hears a stream that is paused; the other one goes on.
            (paused,) = request(daemon, "pause", stream="chords")
            assert isinstance(paused, Event)
            assert paused.event == "paused"
            status = daemon.status()
            assert status.streams["chords"]["state"] == "paused"
            assert status.processes["capture-chords"] == {**status.processes["capture-chords"], "pid": 0, "state": "paused"}
            before = status.streams["other"]["embedded"]
            after = daemon.until(lambda s: s.streams["other"]["embedded"] > before + 1)
            assert after.streams["chords"]["samples"] == status.streams["chords"]["samples"]
            for name, says in (("now", "chords is paused"), ("pause", "chords is paused")):
                with pytest.raises(EndpointError, match=says):
                    request(daemon, name, stream="chords")
            request(daemon, "resume", stream="chords")
            assert receive(subscriber, "epoch").detail["reason"] == "resumed"
            back = receive(subscriber, "resumed")
            received = subscriber.receive(PATIENCE_S)
            while received is not None and not isinstance(received.message, Embedding):
                received = subscriber.receive(PATIENCE_S)
            assert received is not None
            assert isinstance(received.message, Embedding)
            assert received.message.epoch == back.epoch == paused.epoch + 1
            assert received.message.window.start >= back.index
            assert received.message.time.start_ns > paused.time_ns, "nothing older than the pause"
            assert daemon.status().streams["chords"]["restarts"] == 0
            assert subscriber.lost == 0

        # What cannot be done is refused, in words.
        for name, words, says in (
            ("now", {}, "stream: not given; choose one of chords, other"),
            ("now", {"stream": "cords"}, "no stream 'cords'; choose one of chords, other"),
            ("resume", {"stream": "chords"}, "chords is listening"),
            ("set", {}, "set needs hop, in seconds, or gate, in dBFS"),
            ("set", {"hop": 0.1}, "hop 0.1 is out of range; choose 0.25 to 3600 seconds"),
            ("set", {"hop": 900.0}, "a hop of 21600000 samples does not fit"),
            ("set", {"hop": "1"}, "hop is '1'; expected a number"),
            ("set", {"hop": True}, "hop is True; expected a number"),
            ("set", {"gate": 3}, "gate 3 is out of range; choose at most 0 dBFS"),
            ("set", {"hup": 3}, "set has no 'hup'; did you mean 'hop'"),
            ("history", {"stream": "chords"}, "first is None; expected a whole number"),
            ("history", {"last": 3, "first": 1}, "last and first cannot be combined"),
            ("history", {"last": 3, "kind": "status"}, "kind 'status' has no history; choose embedding or event"),
            ("history", {"first": 0, "stream": "chords", "boot": bytes(16)}, "that run of the daemon is over"),
            ("stats", {}, "set, shutdown; did you mean 'status'"),
        ):
            with pytest.raises(EndpointError) as refusal:
                request(daemon, name, **words)
            assert says in str(refusal.value)
        assert request(daemon, "shutdown")
        daemon.exits(0)
        assert "stopping: asked to over the control socket" in daemon.stderr


@pytest.mark.slow
def test_standard_input_cannot_be_paused() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--source", "pipe:-", stdin=-1) as daemon:
        daemon.until(lambda s: s.phase == "running")
        with pytest.raises(EndpointError, match=r"cannot be paused: it would start over"):
            request(daemon, "pause", stream="pipe")


@pytest.mark.slow
def test_the_commands() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.phase == "running" and s.streams["chords"]["embedded"] > 0)
        where = ["--control", daemon.control]
        assert "chords#" in mertd("control", "now", *where).stdout
        assert "hop_s=2.0" in mertd("control", "set", "--hop", "2", *where).stdout
        assert '"event": "paused"' in mertd("control", "pause", "--json", *where).stdout
        assert mertd("control", "resume", *where).stdout == ""
        mertd("control", "shutdown", *where)
        daemon.exits(0)


@pytest.mark.slow
def test_a_flood_of_malformed_requests_harms_nobody() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        before = daemon.until(lambda s: s.phase == "running" and s.streams["chords"]["embedded"] > 0)
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = socket.sndhwm = socket.rcvhwm = 0
            socket.connect(daemon.control)
            for number in range(2_000):
                socket.send(msgpack.packb([number]) if number % 2 else b"\xc1")
            assert daemon.status().phase == "running", "another client is answered"
            for _ in range(2_000):
                assert socket.poll(PATIENCE_S * 1_000)
                assert msgpack.unpackb(socket.recv())["ok"] is False
        status = daemon.status()
        assert status.streams["chords"]["skipped"] == before.streams["chords"]["skipped"]
