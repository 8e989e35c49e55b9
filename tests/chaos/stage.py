"""The live set: a daemon with three sources, a sound server, a FIFO with a writer, a client that sees all, a pacemaker."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from chaos.laws import Laws
from chaos.parts import Pacemaker, Writer
from chaos.timecode import Timecode
from command_process import PATIENCE_S, wait_until
from daemon_process import RATE, TINY, Daemon
from device.pulse import SoundServer
from free_port import free_port
from mertd.errors import EndpointError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.request import ask
from mertd.wire import Embedding, Message, Status

WINDOW_S = 1.0
"""Seconds in a window: short, as the time that it takes to fill is part of every recovery."""

HOP_S = 0.5
"""Seconds between the starts of two windows."""

STREAMS = ("room", "radio", "chords")
"""A device, a FIFO and a synthesised source."""

SINKS = ("a", "b")
"""Sinks of the sound server whose monitors are recorded."""

VOLUME = 20_000
"""Of the sound that is played, out of 65,536."""

LOG_BYTES = 4_096
"""Size of the pipe to the log's reader: some twenty lines fill it."""

TRUTH_NS = 20_000_000
"""Nanoseconds by which the writer itself may be off: it wakes every 5 ms at best, and its reader for blocks of 50 ms."""


class Client:
    """Sees every message of a daemon, and holds it to the laws as it comes."""

    def __init__(self, endpoint: str, laws: Laws) -> None:
        self.laws, self.heard = laws, 0
        self.latest: dict[str, Embedding] = {}
        self.last_status: Status | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._subscriber = Subscriber(endpoint, kinds=("embedding", "event", "status"))
        self._thread = threading.Thread(target=self._listen, name="client")
        self._thread.start()

    def _listen(self) -> None:
        while True:
            received = self._subscriber.receive(0.2)
            if received is not None:
                self._hear(received.message)
            elif self._stop.is_set():
                break
        self._subscriber.close()

    def _hear(self, message: Message) -> None:
        with self._changed:
            self.laws.heard(message, time.time_ns())
            self.heard += 1
            match message:
                case Embedding():
                    self.latest[message.stream] = message
                case Status():
                    self.last_status = message
            self._changed.notify_all()

    def struck(self, stream: str) -> int:
        """The stream's source fails now, and the next epoch is all after that. Returns the epoch that ends."""
        with self._changed:
            self.laws.struck(stream, time.time_ns())
            return self.epoch(stream)

    def muted(self, stream: str, silent: bool) -> None:
        """The stream's source is muted, or heard again, now."""
        with self._changed:
            self.laws.muted(stream, time.time_ns(), silent)

    def epoch(self, stream: str) -> int:
        """The newest that was announced."""
        return self.laws.epoch(stream)

    def until(self, condition: Callable[[], bool], deadline: Callable[[], float]) -> bool:
        """Wait until `condition` holds, which is looked at after every message. `deadline`: monotonic, and may move."""
        with self._changed:
            while not condition():
                if time.monotonic() > deadline():
                    return False
                self._changed.wait(0.1)
            return True

    def close(self) -> None:
        """Once the daemon has ended: what is still on its way is heard."""
        self._stop.set()
        self._thread.join()


class Live(Daemon):
    """A daemon whose log is read through a small pipe, and only as long as `reading` is set."""

    def __init__(self, *options: object, endpoints: tuple[str, str]) -> None:
        super().__init__(*options, endpoints=endpoints)
        self.reading = threading.Event()
        self.reading.set()

    def __enter__(self) -> Self:
        super().__enter__()
        assert self.process.stderr is not None
        fcntl.fcntl(self.process.stderr, fcntl.F_SETPIPE_SZ, LOG_BYTES)
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            while line := os.read(stream.fileno(), LOG_BYTES):
                with self._changed:
                    self._lines.append(line.decode(errors="replace"))
                    self._changed.notify_all()
                self.reading.wait()

    def ask_status(self, timeout_s: float = 3.0) -> Status:
        """What the daemon answers when asked, as soon as it does."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                (message,) = ask(self.control, {"request": "status"}, timeout_s)
            except EndpointError:
                assert self.process.poll() is None, f"it has exited with {self.process.returncode}:\n{self.stderr}"
                assert time.monotonic() < deadline, "the daemon does not answer"
                continue
            assert isinstance(message, Status)
            return message


class Holding:
    """What the supervisor has open: file descriptors, threads, descendants."""

    def __init__(self, pid: int) -> None:
        process = psutil.Process(pid)
        self.descriptors, self.threads = process.num_fds(), process.num_threads()
        self.processes = len(process.children(recursive=True))

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, {self.threads} threads, {self.processes} processes"

    def exceeds(self, other: Holding) -> bool:
        """Whether there is more of anything."""
        return self.descriptors > other.descriptors or self.threads > other.threads or self.processes != other.processes


class Stage:
    """All of it, as a context manager. Leaving it stops the daemon and fails if anything is left on the machine."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self._undo = folder, ExitStack()
        self.sink = SINKS[0]
        window, hop = round(WINDOW_S * RATE), round(HOP_S * RATE)
        self._code = Timecode(round((seconds * 2 + 300) * RATE), RATE, window)
        self.laws = Laws(window, hop, RATE, {"radio": lambda m: self._code.window(m.audio.rms_dbfs)}, TRUTH_NS)

    def __enter__(self) -> Self:
        with self._undo as undo:
            self.server = undo.enter_context(SoundServer(self.folder / "pulse"))
            os.environ["XDG_RUNTIME_DIR"] = self.server.environment["XDG_RUNTIME_DIR"]
            os.environ.pop("PULSE_SOURCE", None)
            self.furnish()
            undo.callback(lambda: self.player.kill())
            self.pacemaker = Pacemaker()
            undo.callback(self.pacemaker.close)
            fifo = self.folder / "radio"
            os.mkfifo(fifo)
            self._enter_daemon(undo, fifo)
            self._undo = undo.pop_all()
        return self

    def _enter_daemon(self, undo: ExitStack, fifo: Path) -> None:
        sources = ["device:pulse?name=room", f"pipe:{fifo}?rate={RATE}&channels=1&format=f32le", "synth:chords"]
        words = [word for source in sources for word in ("--source", source)]
        pace = ["--window", WINDOW_S, "--hop", HOP_S, "--backend", "onnx"]
        endpoints = (f"tcp://127.0.0.1:{free_port()}", f"ipc://{self.folder}/sockets/control")
        self.client = Client(endpoints[0], self.laws)  # before the daemon, to miss nothing; and closed after it
        undo.callback(self.client.close)
        self.writer = Writer(fifo, self._code)
        undo.callback(self.writer.close)
        self.daemon = undo.enter_context(Live(*TINY, *pace, *words, endpoints=endpoints))
        self.record = self.folder / "onlooker"
        with self.record.open("w") as file:
            command = [sys.executable, "-m", "chaos.onlooker", self.daemon.publish]
            self.onlooker = subprocess.Popen(command, stdout=file, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        undo.callback(self.onlooker.wait)
        undo.callback(self.onlooker.kill)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.__exit__(kind, error, trace)

    def furnish(self) -> None:
        """A sink with noise, whose monitor is the default source if there is no other one."""
        self.server.add_sink(self.sink)
        self.player = self.server.noise(self.sink, VOLUME)

    def unfurnish(self) -> None:
        """The player ends with its sink, or its server."""
        self.player.kill()
        self.player.wait()

    def move(self) -> None:
        """The other sink takes the place of this one."""
        old, self.sink = self.sink, SINKS[self.sink == SINKS[0]]
        player = self.player
        self.furnish()
        self.server.control("set-default-source", f"{self.sink}.monitor")
        player.kill()
        player.wait()
        self.server.remove_sink(old)

    def ready(self) -> None:
        """Wait until every stream gives vectors."""
        deadline = time.monotonic() + PATIENCE_S
        ready = self.client.until(lambda: all(stream in self.client.latest for stream in STREAMS), lambda: deadline)
        assert ready, f"no vectors of every stream: {sorted(self.client.latest)}\n{self.daemon.stderr}"

    def settled(self, before: Holding) -> Holding:
        """What the supervisor holds once all is well again and it has let go of what it needed no longer."""

        def well() -> bool:
            status = self.daemon.ask_status()
            healthy = all(facts["state"] == "healthy" for facts in status.processes.values())
            return healthy and not Holding(self.daemon.process.pid).exceeds(before)

        with contextlib.suppress(AssertionError):  # what it holds instead is told by who asked
            wait_until(well, 30, lambda: "")
        return Holding(self.daemon.process.pid)
