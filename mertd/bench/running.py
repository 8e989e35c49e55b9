"""A real daemon in a process of its own, started as a user starts it, and its log."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mertd.errors import BackendError, EndpointError
from mertd.stream.endpoint import socket_folder
from mertd.stream.request import ask
from mertd.wire import Status

MERTD = [sys.executable, "-m", "mertd"]
"""The command line of this installation."""

PATIENCE_S = 120.0
"""Seconds to wait for anything before it counts as failed."""


class DaemonProcess:
    """`mertd run` with sockets in a directory of its own, as a context manager.

    Attributes:
        publish, control: its endpoints.
        lines: its log so far: seconds since its start, and the text of each line.
    """

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mertd-", dir=socket_folder())
        self.publish, self.control = (f"ipc://{Path(self._folder.name, name)}" for name in ("publish", "control"))
        self._command = [*MERTD, "run", "--bind", self.publish, "--control", self.control, *options]
        self.lines: list[tuple[float, str]] = []
        self._said = threading.Condition()

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                with self._said:
                    self.lines.append((time.perf_counter() - self._started, line.rstrip()))
                    self._said.notify_all()
        with self._said:
            self._said.notify_all()

    def said(self, text: str) -> float:
        """Wait for a line of its log that contains `text`. Return when it came, in seconds since the start."""

        def found() -> float | None:
            return next((at for at, line in self.lines if text in line), None)

        with self._said:
            self._said.wait_for(lambda: found() is not None or self._process.poll() is not None, PATIENCE_S)
            at = found()
        if at is None:
            raise BackendError(self._complaint(f"did not say {text!r}"))
        return at

    def until(self, condition: Callable[[Status], bool], pause_s: float = 0.1) -> Status:
        """Ask for its status, every `pause_s` seconds, until that satisfies `condition`, and return it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                (status,) = ask(self.control, {"request": "status"}, timeout_s=5.0)
            except EndpointError:
                time.sleep(0.1)
                continue
            if isinstance(status, Status) and condition(status):
                return status
            time.sleep(pause_s)
        raise BackendError(self._complaint("did not reach the expected state in time"))

    def _complaint(self, failure: str) -> str:
        return "\n".join([f"the daemon {failure}; the end of its log:", *(line for _, line in self.lines[-5:])])


def sources(count: int, source: str = "synth:chords") -> Sequence[str]:
    """Return the options for `count` streams of the same source, synthesised by default."""
    mark = "&" if "?" in source else "?"
    return [word for i in range(count) for word in ("--source", f"{source}{mark}name=s{i}")]
