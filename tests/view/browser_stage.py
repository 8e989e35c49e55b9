"""What a browser is shown in tests and pictures: a day that was remembered, daemons, a hostile one, and Debian's Chromium."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from playwright.sync_api import Browser, BrowserType, sync_playwright

from command_process import PATIENCE_S, wait_until
from mertd.memory.changes.detector import ChangeDetector
from mertd.memory.changes.stream_window import Change, StreamWindow
from mertd.memory.changes.wording import event_detail
from mertd.memory.store import Store
from mertd.stream.families import bind
from mertd.wire import Embedding, Span, Time, encode
from messages import MODEL, embedding, event, status

CHROMIUM = "/usr/bin/chromium"
"""Debian's."""

MERTD = [sys.executable, "-P", "-m", "mertd"]
MODEL_OPTIONS = ["--weights", "random:0?size=tiny", "--layers", "1", "--window", "2", "--hop", "0.5", "--backend", "numpy"]
HOSTILE = "<img src=x onerror=hacked=1>"
"""Name of a stream."""

HOP_NS = 5_000_000_000
WINDOW_NS = 30_000_000_000
RATE = 24_000
SOUNDS = 14
BATCH = 512


class Stage:
    """Processes and files of one run, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publish, self.control = f"ipc://{folder}/publish", f"ipc://{folder}/control"
        self.hostile = f"ipc://{folder}/hostile"
        self.memory = folder / "memory"
        self._processes: list[subprocess.Popen[str]] = []
        self._errors = (folder / "errors.txt").open("w")

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of mertd."""
        environment = os.environ | {
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            "XDG_DATA_HOME": str(self.folder),
        }
        process = subprocess.Popen([*MERTD, *words], stdout=subprocess.PIPE, stderr=self._errors, env=environment, text=True)
        self._processes.append(process)
        return process

    @property
    def endpoints(self) -> list[str]:
        """Options of a daemon."""
        return ["--bind", self.publish, "--control", self.control]

    def daemon(self, *more: str) -> subprocess.Popen[str]:
        """Start a daemon that hears chords in a `room`."""
        return self.start(
            "run", *self.endpoints, *MODEL_OPTIONS, "--source", "synth:chords?name=room", "--name", "studio", *more
        )

    def view(self, memory: Path | None = None, bind_to: str = "127.0.0.1:0") -> tuple[subprocess.Popen[str], str]:
        """Start the page's server; return it, and its address."""
        endpoints = ["--connect", self.publish, "--control", self.control]
        process = self.start("view", *endpoints, "--bind", bind_to, "--memory", str(memory or self.memory))
        assert process.stdout is not None
        return process, process.stdout.readline().split()[-1]

    def end(self, process: subprocess.Popen[str]) -> None:
        """Stop a process in order."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, process.args

    def close(self) -> None:
        """Kill all that still runs."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._errors.close()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="mertd-view-") as name:
        made = Stage(Path(name))
        try:
            yield made
        except BaseException:
            print((made.folder / "errors.txt").read_text()[-4_000:], file=sys.stderr)
            raise
        finally:
            made.close()


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start the browser."""
    with sync_playwright() as playwright, launched(playwright.chromium, *arguments) as browser:
        yield browser


@contextlib.contextmanager
def launched(kind: BrowserType, *arguments: str) -> Iterator[Browser]:
    """Start a process of the browser. The superuser cannot have its sandbox."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = kind.launch(executable_path=CHROMIUM, args=[*sandbox, *arguments])
    yield browser
    browser.close()


def remember_a_day(folder: Path, count: int, end_ns: int) -> None:
    """Fill a memory with sections of 10 to 60 minutes, of which some return, and with the changes that are found in them."""
    messages = [_heard(at, vector, end_ns - (count - 1 - at) * HOP_NS - WINDOW_NS) for at, vector in enumerate(_evening(count))]
    marks = _changes(messages)
    with Store(folder, 1 << 40, 1 << 40) as store:
        for first in range(0, count, BATCH):
            store.append(messages[first : first + BATCH])
        store.append(marks)


def _evening(count: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(3)
    offset = 6 * random.standard_normal(768)
    sounds = random.standard_normal((SOUNDS, 768))
    done, drift = 0, np.zeros(768)
    while done < count:
        sound = sounds[random.integers(SOUNDS)] + 0.1 * random.standard_normal(768)
        for _ in range(min(int(random.integers(120, 720)), count - done)):
            drift = 0.97 * drift + 0.02 * random.standard_normal(768)
            yield (offset + sound + drift + 0.06 * random.standard_normal(768)).astype(np.float32)
            done += 1


def _heard(seq: int, vector: np.ndarray, start_ns: int) -> Embedding:
    first = seq * HOP_NS * RATE // 1_000_000_000
    window = Span(first, first + WINDOW_NS * RATE // 1_000_000_000, RATE)
    return embedding(seq, vector=vector[None], window=window, time=Time(start_ns, start_ns + WINDOW_NS, 2_000_000, 0.0))


def _changes(messages: list[Embedding]) -> list[Any]:
    detector, found = ChangeDetector(), []
    for message in messages:
        window, when = message.window, message.time
        length = window.end - window.start
        heard = StreamWindow(message.boot, 0, message.seq, window.start, length, when.start_ns, when.end_ns, message.vector)
        for one in detector.feed(heard):
            if isinstance(one, Change):
                facts = {"event": one.kind.value, "time_ns": one.time_ns, "detail": event_detail(one, MODEL.space)}
                found.append(event(len(found), **facts))
    return found


@contextlib.contextmanager
def hostile_daemon(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A program that publishes what no mertd would: names and errors that are markup."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        bind(socket, endpoint)
        yield socket


def hostile_words() -> list[list[bytes]]:
    """Its messages."""
    facts = {"state": "lost", "problem": HOSTILE, "description": HOSTILE, "due": 5, "skipped": 1}
    model = {"name": HOSTILE, "backend": HOSTILE, "device": "x", "trained": False}
    words = {"daemon": "evil", "boot": bytes(16)}
    lost = event(0, stream=HOSTILE, event="device_lost", detail={"message": HOSTILE}, time_ns=time.time_ns(), **words)
    return [
        encode(status(phase=HOSTILE, version=HOSTILE, model=model, streams={HOSTILE: facts}, **words)),
        encode(embedding(0, stream=HOSTILE, **words)),
        encode(lost),
    ]


def until(condition: Any, what: str) -> None:
    """Wait for something."""
    wait_until(condition, PATIENCE_S, lambda: what)
