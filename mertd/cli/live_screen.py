"""A screen that is drawn again and again, as of `mertd tail` at a terminal.

It uses the terminal's second screen, so that nothing of the first one is overwritten, also when the size changes. What was
shown last is printed on the first screen at the end. On Ctrl-C, SIGTERM, Ctrl-\\ and Ctrl-Z the terminal is left as it was.
A job in the background draws nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from mertd.cli.output import UNKNOWN_WIDTH, complain, new_console, obeys_escapes, say
from mertd.cli.terminal_text import shown_line

if TYPE_CHECKING:
    from rich.console import Console

UNKNOWN_HEIGHT = 24
"""Lines of a terminal that does not say how many it has."""

LEAVE = b"\x1b[?25h\x1b[?1049l"
"""Shows the cursor and the first screen."""

MAX_COMPLAINTS = 20
"""Complaints that are kept to be printed at the end."""


def can_redraw() -> bool:
    """Return whether standard output is a terminal on which lines can be drawn again."""
    if not sys.stdout.isatty() or not obeys_escapes():
        return False
    console = new_console()
    return console.is_terminal and console.is_interactive


def terminal_size() -> tuple[int, int]:
    """Return columns and lines of the terminal on standard output, now. COLUMNS may be from before a change of the size."""
    try:
        width, height = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        width, height = 0, 0
    return width or UNKNOWN_WIDTH, height or UNKNOWN_HEIGHT


def is_in_foreground() -> bool:
    """Return whether the terminal on standard output is this job's to draw on, as far as can be told."""
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # it is not the terminal that controls this process
        return True


class LiveScreen:
    """Draws lines on the second screen of the terminal until it is left.

    What is logged or complained about meanwhile would be drawn over: it is kept in `complaints` and printed at the end.

    Attributes:
        complaints: the last ones, oldest first.
    """

    def __init__(self) -> None:
        from rich.live import Live

        self.complaints: deque[str] = deque(maxlen=MAX_COMPLAINTS)
        self._console: Console = new_console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._last: Sequence[str] = ()
        self._suspended = False
        self._before = {number: signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGQUIT)}
        self._log = _Kept(self.complaints)

    @property
    def encoding(self) -> str:
        """The encoding of standard output."""
        return self._console.encoding

    def __enter__(self) -> Self:
        for number, handler in {signal.SIGTSTP: self._suspend, signal.SIGQUIT: self._quit}.items():
            if self._before[number] is not signal.SIG_IGN:
                signal.signal(number, handler)
        if sys.stderr.isatty():
            logging.getLogger().addHandler(self._log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()
        logging.getLogger().removeHandler(self._log)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for line in self._last:
            say(line)
        for complaint in self.complaints:
            complain(complaint)

    def complain(self, text: str) -> None:
        """Keep a complaint; without a terminal on standard error, print it there at once."""
        if sys.stderr.isatty():
            self.complaints.append(text)
        else:
            complain(text)

    def draw(self, lines: Sequence[str], styles: Sequence[str] = ()) -> None:
        """Show these lines, each cut to the width. `styles`: one of rich's for each of the first lines, or none."""
        from rich.text import Text

        if self._suspended:
            self._stop_process()
        if not is_in_foreground():
            self._live.stop()
            return
        self._live.start()
        width, height = self._console.size = terminal_size()
        shown = [shown_line(line, width, self.encoding) for line in lines[:height]]
        self._last = [*lines]
        text = Text("\n", no_wrap=True, overflow="crop").join(
            Text(line, style=style) for line, style in zip(shown, [*styles, *[""] * len(shown)], strict=False)
        )
        self._live.update(text, refresh=True)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._suspended = True  # at the next drawing: the terminal may be in the middle of one

    def _stop_process(self) -> None:
        """Stop, as Ctrl-Z asks for, with the terminal as it was; and go on when told to."""
        self._suspended = False
        self._live.stop()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _quit(self, number: int, _frame: FrameType | None) -> None:
        """Die of the signal, which asks for that at once, perhaps in the middle of a drawing."""
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), LEAVE)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class _Kept(logging.Handler):
    """Keeps what libraries log."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
