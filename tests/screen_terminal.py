"""A terminal with a screen, for tests: a program runs in it, and the test sees what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import pyte

from command_process import PATIENCE_S, Traces

ENTER_SECOND_SCREEN = "\x1b[?1049h"
LEAVE_SECOND_SCREEN = "\x1b[?1049l"
HIDE_CURSOR = "\x1b[?25l"
SHOW_CURSOR = "\x1b[?25h"


class ScreenTerminal:
    """`mertd` with words, in a terminal of a size.

    Attributes:
        raw: all that it has written.
    """

    def __init__(
        self,
        *words: str,
        columns: int = 100,
        lines: int = 24,
        environment: Mapping[str, str | None] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """`before`: a program that is given the command, as a shell is."""
        self.raw = ""
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines)
        self._traces = Traces()
        usual: dict[str, str | None] = {**self._traces.environment, "TERM": "xterm-256color", "COLUMNS": None}
        merged = {**usual, **(environment or {})}
        self.process = subprocess.Popen(
            [*before, sys.executable, "-P", "-m", "mertd", *words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={name: value for name, value in merged.items() if value is not None},
            preexec_fn=self._take,
        )

    def _take(self) -> None:
        """In a new process: make this its terminal."""
        os.setsid()
        fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as a person does who drags the window's corner; the program is sent SIGWINCH."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read until a condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.text
            self.read(0.1)

    def read(self, seconds: float) -> bool:
        """Read what it writes within this time. Return whether there was anything."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux says so of a terminal that nobody has open
            return False
        self.raw += data.decode(errors="replace")
        self._stream.feed(data)
        return bool(data)  # macOS says so with nothing

    @property
    def rows(self) -> list[str]:
        """The lines of the screen, without blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.rows).rstrip()

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Read to its end, and return its exit code."""
        self.until(lambda: self.process.poll() is not None)
        while self.read(0.05):
            pass
        return int(self.process.wait())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
        self._traces.remove()
