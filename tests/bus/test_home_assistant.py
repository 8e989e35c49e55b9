"""The example for Home Assistant, from the bus through the MQTT listener of nats-server to mosquitto's client."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.cluster import Cluster
from command_process import PATIENCE_S, wait_until
from mertd.bus.subjects import Subject
from mertd.wire import Audio, Embedding, Event, Time, encode
from messages import embedding, event

EXAMPLE = Path(__file__).parents[2] / "examples" / "home_assistant.py"
NEEDS_MOSQUITTO = pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="needs mosquitto-clients")
NAMES = st.text(max_size=20) | st.sampled_from(["hall 1.left", "a/b", "a+b", "#", "straße", "", "a_b", "a-b"])
ODD = "hall 1.left/#+ä"
ODD_TOPIC = "hall%201%2Eleft%2F%23%2B%C3%A4"


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("home_assistant", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


example = _example()


@given(NAMES, NAMES, NAMES)
def test_identifiers_are_plain_and_differ(daemon: str, stream: str, other: str) -> None:
    room = example.Room(daemon, stream)
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", room.id)
    assert (room.id == example.Room(daemon, other).id) == (stream == other)
    parts = room.discovery()["components"].values()
    assert len({part["unique_id"] for part in parts}) == len(parts)
    for part in parts:
        assert re.fullmatch(r"mertd-state/[\w%-]+/[\w%-]+(/event)?", part["state_topic"])


def test_what_is_not_finite_is_unknown() -> None:
    room = example.Room("studio", "room")
    room.take(embedding(0, audio=Audio(float("-inf"), float("nan"), 0, 0, 0)))
    assert json.loads(json.dumps(room.values, allow_nan=False))["level"] is None
    assert "UNTRAINED" in room.discovery()["device"]["model"]


def test_what_comes_again_changes_nothing() -> None:
    room = example.Room("studio", "room")
    taken = [room.is_new("event", event(seq, event="silent")) for seq in (0, 2, 1, 2, 3)]
    assert taken == [True, True, False, False, True]
    assert room.is_new("embedding", embedding(0))
    assert room.is_new("event", event(0, boot=bytes(16)))
    assert not room.is_new("event", event(0, event="hole"))


def test_states_follow_events() -> None:
    room = example.Room("studio", "room")
    states = []
    for name in ("started", "silent", "overflow", "device_lost", "health", "device_back", "ended"):
        assert room.take(event(0, event=name, detail={"rms_dbfs": -80.0})) is None
        states.append(room.values["state"])
    assert states == ["listening", "silent", "silent", "lost", "lost", "listening", "ended"]
    assert set(states) <= set(room.discovery()["components"]["state"]["options"])
    assert room.take(event(0, event="change", detail={"strength": 1.25})) == {"event_type": "change", "number": 1.25}


class Broker:
    """A bus with an MQTT listener, and a client of mosquitto that hears everything."""

    def __init__(self, bus: Cluster) -> None:
        self.url, self.port = bus.urls()[0], str(bus.nodes[0].mqtt)
        self.heard: list[tuple[str, bytes]] = []
        command = ["mosquitto_sub", "-p", self.port, "-F", "%t %x", "-t", "#"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        wait_until(self._is_heard, PATIENCE_S, lambda: "mosquitto's client hears nothing")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            topic, _, content = line.rstrip("\n").partition(" ")
            self.heard.append((topic, bytes.fromhex(content)))

    def _is_heard(self) -> bool:
        self.publish("test/started", "x")
        return bool(self.heard)

    def close(self) -> None:
        self.process.kill()
        self._thread.join(PATIENCE_S)
        with self.process:
            pass

    def publish(self, topic: str, content: str) -> None:
        subprocess.run(["mosquitto_pub", "-p", self.port, "-t", topic, "-m", content], check=True, timeout=PATIENCE_S)

    def until(self, pattern: str, content: str = "") -> Any:
        """Wait for a message; return it and forget what came before."""

        def find() -> int | None:
            for place, (topic, payload) in enumerate(self.heard):
                if re.fullmatch(pattern, topic) and content.encode() in payload:
                    return place
            return None

        wait_until(lambda: find() is not None, PATIENCE_S, lambda: f"no {pattern} with {content!r} in {self.heard}")
        place = find()
        assert place is not None
        found = self.heard[place][1]
        del self.heard[: place + 1]
        return found


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Cluster(extra='mqtt { listen: "127.0.0.1:{mqtt}" }\n') as bus:
        made = Broker(bus)
        yield made
        made.close()


def _publish(url: str, *messages: Embedding | Event, create: bool = False) -> list[bytes]:
    async def publish() -> list[bytes]:
        client = await nats.connect(url)
        stream = client.jetstream()
        if create:
            await stream.add_stream(name="mertd", subjects=["mertd.>"])
        sent = [encode(message)[1] for message in messages]
        for message, payload in zip(messages, sent, strict=True):
            kind = "embedding" if isinstance(message, Embedding) else "event"
            await stream.publish(str(Subject(message.daemon, message.stream, kind)), payload)
        await client.close()
        return sent

    return asyncio.run(publish())


def _heard(seq: int, stream: str) -> Embedding:
    now = time.time_ns()
    return embedding(seq, stream, time=Time(now - 30_000_000_000, now, 0, 0.0))


@NEEDS_MOSQUITTO
@pytest.mark.slow
def test_home_assistant_is_told(broker: Broker) -> None:
    lost = event(0, stream="gone", event="device_lost", detail={"message": "x"}, time_ns=1)
    _publish(broker.url, _heard(0, ODD), embedding(0, "over"), lost, create=True)
    command = [sys.executable, "-P", EXAMPLE, broker.url]
    with subprocess.Popen(command) as bridge:
        try:
            devices = {}
            for _ in range(3):
                told = json.loads(broker.until(r"homeassistant/device/mertd_[0-9a-f]{16}/config"))
                devices[told["device"]["name"]] = told
            assert set(devices) == {f"{ODD} (studio)", "over (studio)", "gone (studio)"}
            (sent,) = _publish(broker.url, _heard(1, ODD))
            assert broker.until(f"mertd/studio/{ODD_TOPIC}/embedding") == sent, "the bytes of the wire"
            state = json.loads(broker.until(devices[f"{ODD} (studio)"]["components"]["level"]["state_topic"]))
            assert (state["state"], type(state["level"])) == ("listening", float)
            change = event(0, stream=ODD, event="change", detail={"strength": 2.0}, time_ns=time.time_ns())
            _publish(broker.url, change)
            assert json.loads(broker.until(f"mertd-state/studio/{ODD_TOPIC}/event"))["event_type"] == "change"
            broker.publish("homeassistant/status", "online")  # it was started again, and has forgotten
            again = {json.loads(broker.until("homeassistant/device/.*/config"))["device"]["name"] for _ in range(3)}
            assert again == set(devices)
        finally:
            bridge.terminate()


@NEEDS_MOSQUITTO
@pytest.mark.slow
def test_old_news_is_no_state(broker: Broker) -> None:
    lost = event(0, stream="gone", event="device_lost", detail={"message": "x"}, time_ns=1)
    _publish(broker.url, embedding(0, "over"), lost, create=True)
    with subprocess.Popen([sys.executable, "-P", EXAMPLE, broker.url]) as bridge:
        try:
            assert json.loads(broker.until("mertd-state/.*"))["state"] == "lost"
            assert not [topic for topic, _ in broker.heard if topic == "mertd-state/studio/over"]
        finally:
            bridge.terminate()


@NEEDS_MOSQUITTO
@pytest.mark.slow
def test_it_waits_for_a_stream(broker: Broker) -> None:
    with subprocess.Popen([sys.executable, "-P", EXAMPLE, broker.url], stderr=subprocess.PIPE, text=True) as bridge:
        assert bridge.stderr is not None
        try:
            assert "mertd relay --create" in bridge.stderr.readline()
            _publish(broker.url, _heard(0, "room"), create=True)
            assert json.loads(broker.until("mertd-state/studio/room"))["state"] == "listening"
        finally:
            bridge.terminate()
