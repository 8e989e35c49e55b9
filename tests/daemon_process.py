"""Real mertd processes for tests: started as a user starts them, watched from outside, and held to leaving nothing behind.

Nothing here waits for a fixed time: everything waits for a line on standard error, an answer of the control socket, or an exit.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from command_process import PATIENCE_S, STOP_S, Traces, wait_until
from mertd.errors import EndpointError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.request import ask, ask_page
from mertd.wire import Embedding, Event, Message, Status
from signals import chord_progression

TINY = ["--weights", "random:0?size=tiny", "--layers", "1,2"]
SHORT = ["--window", "1", "--hop", "0.5"]
RATE = 24_000


class Daemon:
    """A running `mertd run`, as a context manager. On leaving, it is stopped if need be, and nothing of it may be left."""

    def __init__(
        self,
        *options: object,
        stdin: int = subprocess.DEVNULL,
        endpoints: tuple[str, str] | None = None,
        terminal: int | None = None,
        keys: ClientKeys | None = None,
    ) -> None:
        """`endpoints`: where to publish and answer, by default sockets in a folder of its own. `terminal`: what controls it.
        `keys`: to ask it with.
        """
        self._terminal = terminal
        self.traces, self.keys = Traces(), keys
        folder = self.traces.folder
        self.publish, self.control = endpoints or (f"ipc://{folder}/publish", f"ipc://{folder}/control")
        words = ["--bind", self.publish, "--control", self.control, *map(str, options)]
        self._command, self._stdin = [sys.executable, "-m", "mertd", "run", *words], stdin
        self._lines: list[str] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            stdin=self._stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.traces.environment,
            start_new_session=True,  # a terminal's process group, for the tests that signal all of it
            preexec_fn=self._prepare,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _prepare(self) -> None:
        """In the new process: its terminal, and SIGHUP as a shell leaves it, even if the tests run under nohup."""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSCTTY, 0)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                if self.process.poll() is None:
                    self.stop()
                self.traces.assert_gone()
                assert "Traceback" not in self.stderr, self.stderr
            elif error is not None:
                error.add_note(f"standard error of the daemon:\n{self.stderr}")
        finally:
            self.traces.remove()
            self.process.wait()
            self._reader.join()
            if self.process.stdin:
                self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.decode())
                    self._changed.notify_all()

    @property
    def stderr(self) -> str:
        return "".join(self._lines)

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until standard error holds `pattern`."""
        with self._changed:
            assert self._changed.wait_for(lambda: re.search(pattern, self.stderr), PATIENCE_S), f"no {pattern!r}"
            found = re.search(pattern, self.stderr)
        assert found is not None
        return found

    def bound(self) -> None:
        """Wait for the sockets."""
        found = self.said(r"publishing on (\S+), control on (\S+)\n")
        self.publish, self.control = found[1], found[2]

    def status(self) -> Status:
        """What the daemon answers when asked."""
        (message,) = ask(self.control, {"request": "status"}, keys=self.keys)
        assert isinstance(message, Status)
        return message

    def until(self, condition: Callable[[Status], bool]) -> Status:
        """Ask until the answer satisfies `condition`."""
        self.bound()
        answers: list[Status] = []

        def satisfied() -> bool:
            try:
                answers[:] = [self.status()]
            except EndpointError:  # a loaded machine may not answer in time; a dead daemon never does
                assert self.process.poll() is None, f"it has exited with {self.process.returncode}"
                return False
            return condition(answers[0])

        wait_until(satisfied, PATIENCE_S, lambda: f"it never came; the last status was {answers}")
        return answers[0]

    def pid(self, name: str) -> int:
        """Process id of `embed` or `capture-STREAM`, once it runs."""
        return int(self.until(lambda s: s.processes[name]["pid"] != 0).processes[name]["pid"])

    def published(self, kind: str) -> list[Message]:
        """All embeddings, or events, so far; fails if there are more than the daemon remembers."""
        page = ask_page(self.control, {"request": "history", "kind": kind, "stream": "", "last": 256})
        assert not page.more
        return page.messages

    def stop(self, number: signal.Signals = signal.SIGTERM, group: bool = False) -> None:
        """Send a signal, to the process or to its whole group as a terminal does; fails if it does not stop in order."""
        os.killpg(self.process.pid, number) if group else self.process.send_signal(number)
        self.exits(0, STOP_S)

    def exits(self, code: int, within_s: float = PATIENCE_S) -> None:
        """Wait for the exit."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s") from None
        self._reader.join(STOP_S)  # in vain while an orphan holds standard error open
        assert self.process.returncode == code, f"exit code {self.process.returncode}, not {code}"


@contextmanager
def listening(daemon: Daemon, *kinds: str) -> Iterator[list[Message]]:
    """Everything that a daemon, not yet bound, publishes until it ends: the list is filled on leaving. Fails if one is lost.

    ZeroMQ connects some time after the daemon has bound, so what was published before comes from the daemon's history.
    """
    ended = threading.Event()
    heard: list[Message] = []

    def listen() -> None:
        with Subscriber(daemon.publish, kinds=kinds, control=daemon.control, resume={}) as subscriber:
            while (received := subscriber.receive(0.3)) is not None or not ended.is_set():
                if received is not None:
                    assert received.lost == 0
                    heard.append(received.message)

    with ThreadPoolExecutor(1) as pool:
        listener = pool.submit(listen)
        try:
            yield heard
            daemon.process.wait(PATIENCE_S)
        finally:
            ended.set()
    listener.result()


def embeddings(messages: list[Message], stream: str) -> list[Embedding]:
    """Those of one stream, which must be numbered without a hole."""
    found = [m for m in messages if isinstance(m, Embedding) and m.stream == stream]
    assert [m.seq for m in found] == list(range(len(found)))
    return found


def events(messages: list[Message], stream: str, name: str) -> list[Event]:
    """Those of one stream and name."""
    return [m for m in messages if isinstance(m, Event) and m.stream == stream and m.event == name]


def assert_conserved(messages: list[Message], stream: str) -> None:
    """Every window due was embedded, silent or skipped, and each of these was published (the law)."""
    last = [m for m in messages if isinstance(m, Status)][-1].streams[stream]
    assert last["due"] == last["embedded"] + last["silent"] + last["skipped"], last
    assert last["waiting"] == 0
    assert len(embeddings(messages, stream)) == last["embedded"]
    assert len(events(messages, stream, "silent")) == last["silent"]
    assert sum(e.detail["windows"] for e in events(messages, stream, "skipped")) == last["skipped"]
    for ended in events(messages, stream, "ended"):
        assert ended.detail["windows"] == last["due"]


def music(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """16-bit music, (frames, channels), different on every channel."""
    sound = [chord_progression(seconds, rate, seed + channel) for channel in range(channels)]
    return np.round(np.stack(sound, axis=1) * 20_000).astype(np.int16)


def write_wav(path: Path, frames: np.ndarray, rate: int = RATE) -> Path:
    """A sound file."""
    soundfile.write(path, frames, rate)
    return path
