"""Real faults of a real sound server, in turn, under one daemon: each is reported, survived and followed by correct times.

Prints how long each took, from the fault or from the device's return to the first embedding after it: `pytest -s`.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_process import PATIENCE_S, STOP_S
from daemon_process import TINY, Daemon
from device import pulse
from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Embedding, Event

pytestmark = [pytest.mark.slow, pytest.mark.device, pytest.mark.xdist_group("device")]
LOUD, SOFT = 20_000, 8_000  # a factor of 2.5 in PulseAudio's cubic volume: 24 dB


class Room:
    """A daemon that captures the default source of a server, and what it publishes."""

    def __init__(self, folder: Path) -> None:
        self.server = pulse.SoundServer(folder)
        self._players: list[subprocess.Popen[bytes]] = []
        self._heard: queue.Queue[tuple[Embedding | Event, int]] = queue.Queue()
        self._stop = threading.Event()
        self.fault_ns = self.epoch = 0

    def furnish(self) -> None:
        """Add two sinks with noise: `a`, which is the default, and `b`, much quieter."""
        for name, volume in (("a", LOUD), ("b", SOFT)):
            self.server.add_sink(name)
            self._players.append(self.server.noise(name, volume))
        self.server.control("set-default-source", "a.monitor")

    def listen(self, endpoint: str) -> None:
        """Record when each message came; runs in a thread."""
        subscriber = Subscriber(endpoint, kinds=("embedding", "event"))
        while not self._stop.is_set():
            if (received := subscriber.receive(0.1)) is not None:
                assert isinstance(received.message, Embedding | Event)
                self._heard.put((received.message, time.time_ns()))
        subscriber.close()

    def leave(self) -> None:
        self._stop.set()
        for player in self._players:
            player.kill()
            player.wait()

    def until(self, wanted: Callable[[Embedding | Event], bool]) -> Embedding | Event:
        """Return the next message that matches. Every embedding before it must have a correct time."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            message, came_ns = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(message, Embedding):
                self._check(message, came_ns)
            if wanted(message):
                return message

    def _check(self, message: Embedding, came_ns: int) -> None:
        assert message.time.end_ns - message.time.error_ns < came_ns, "heard before it was played"
        if message.epoch > self.epoch:
            assert message.time.start_ns + message.time.error_ns > self.fault_ns, "older than the fault"

    def event(self, name: str) -> Event:
        found = self.until(lambda m: isinstance(m, Event) and m.event == name)
        assert isinstance(found, Event)
        return found

    def embedding(self, epoch: int) -> Embedding:
        """Return the next embedding of that epoch or a later one."""
        found = self.until(lambda m: isinstance(m, Embedding) and m.epoch >= epoch)
        assert isinstance(found, Embedding)
        return found

    def fault(self, what: str, words: str, *, back: Callable[[], object] | None = None) -> Embedding:
        """Check that the fault made at `fault_ns` is reported in `words`, and that what comes after it is newer.

        `back`: what lets the device return, once its loss was noticed.
        """
        lost = self.event("device_lost")
        assert words in lost.detail["message"]
        told_s, returned_ns = (time.time_ns() - self.fault_ns) / 1e9, self.fault_ns
        if back:
            returned_ns = time.time_ns()
            back()
        found = self.embedding(self.epoch + 1)
        print(f"{what}: told after {told_s:.2f} s, first embedding {(time.time_ns() - returned_ns) / 1e9:.2f} s", end=" ")
        print("after its return" if back else "after the fault")
        self.epoch = found.epoch
        return found


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    pulse.require()
    room = Room(tmp_path / "pulse")
    with room.server:
        monkeypatch.setenv("XDG_RUNTIME_DIR", room.server.environment["XDG_RUNTIME_DIR"])
        monkeypatch.delenv("PULSE_SOURCE", raising=False)
        room.furnish()
        with Daemon("--source", "device:pulse?name=room", "--window", "1", "--hop", "0.5", *TINY) as daemon:
            daemon.bound()
            listener = threading.Thread(target=room.listen, args=(daemon.publish,))
            listener.start()
            try:
                room.daemon = daemon  # type: ignore[attr-defined]
                yield room
            finally:
                room.leave()
                listener.join(STOP_S)


def test_faults_of_a_sound_server(room: Room) -> None:
    loud = room.embedding(0).audio.rms_dbfs

    def strike(action: Callable[[], object]) -> None:
        room.fault_ns = time.time_ns()
        action()

    server = room.server
    strike(lambda: server.control("set-default-source", "b.monitor"))
    found = room.fault("default source changed", "from 'a.monitor' to 'b.monitor'")
    assert found.audio.rms_dbfs < loud - 10, "the new one is heard"

    strike(lambda: server.control("set-default-source", "a.monitor"))
    found = room.fault("default source changed back", "from 'b.monitor' to 'a.monitor'")
    assert found.audio.rms_dbfs == pytest.approx(loud, abs=2)

    strike(lambda: server.remove_sink("a"))
    room.fault("sink removed", "from 'a.monitor' to 'b.monitor'")

    strike(lambda: server.control("suspend-sink", "b", "1"))
    room.fault("source suspended", "has delivered nothing for 2 s", back=lambda: server.control("suspend-sink", "b", "0"))

    def restart() -> None:
        server.start()
        room.furnish()

    strike(server.kill)
    found = room.fault("sound server killed", "was lost", back=restart)
    assert found.audio.rms_dbfs == pytest.approx(loud, abs=2)

    strike(lambda: server.control("set-source-mute", "a.monitor", "1"))
    zeros = room.event("zeros")
    assert (zeros.detail["cause"], zeros.detail["seconds"]) == ("muted", pytest.approx(10, abs=1))
    assert abs(zeros.time_ns - room.fault_ns) < 2e9, "dated back to where they began"
    server.control("set-source-mute", "a.monitor", "0")
    assert room.event("zeros_over").detail["seconds"] > 10
    assert room.embedding(room.epoch).epoch == room.epoch, "a mute is no loss"


def test_a_suspended_capture_process_does_not_date_old_audio_as_new(room: Room) -> None:
    """SIGSTOP for a second, which the supervisor tolerates: what the server had buffered keeps its true time or is dropped."""
    daemon: Daemon = room.daemon  # type: ignore[attr-defined]
    settled = room.until(lambda m: isinstance(m, Embedding) and m.time.error_ns < 100_000_000)
    assert isinstance(settled, Embedding)
    capture = daemon.pid("capture-room")
    os.kill(capture, signal.SIGSTOP)
    stopped = time.monotonic()
    while time.monotonic() - stopped < 1.2:
        time.sleep(0.05)
    os.kill(capture, signal.SIGCONT)
    goes_on = room.until(lambda m: isinstance(m, Embedding) and m.window.start > settled.window.end + 4 * 24_000)
    assert isinstance(goes_on, Embedding)
    apart = (goes_on.window.start - settled.window.start) / 24_000 - (goes_on.time.start_ns - settled.time.start_ns) / 1e9
    assert goes_on.epoch > settled.epoch or abs(apart) < 0.2 + goes_on.time.error_ns / 1e9
