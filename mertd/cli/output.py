"""What commands write to the terminal: the only place in mertd that prints, so that no foreign text gets there as it is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mertd.cli.standard_streams import raising_output
from mertd.text import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"green": 32, "yellow": 33, "red": 31}
"""Codes of ANSI terminals for the colour of letters."""

DUMB = ("", "dumb", "unknown")
"""Values of TERM for terminals that can only print."""

UNKNOWN_WIDTH = 80
"""Columns of a terminal that does not say how many it has."""


def obeys_escapes() -> bool:
    """Return whether a terminal does more than print what it is sent, as far as the environment says."""
    return os.environ.get("TERM", "").lower() not in DUMB


def say(text: object = "") -> None:
    """Print one line. Whatever is in it, it stays one line and gives the terminal no commands."""
    print(printable(text), flush=True)


def say_labelled(label: str, colour: str, text: str) -> None:
    """Print one line that begins with one of our own labels, coloured if this is a terminal that may have colours."""
    may_colour = sys.stdout.isatty() and obeys_escapes() and not os.environ.get("NO_COLOR")
    shown = f"\x1b[{COLOURS[colour]}m{label}\x1b[0m" if may_colour else label
    print(shown, printable(text), sep="", flush=True)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print one value as JSON."""
    print(json_text(value, indent), flush=True)


def say_page(text: str) -> None:
    """Print a text of several lines, which must be our own."""
    for line in text.split("\n"):
        print(printable(line, None))


def say_with_tabs(text: str) -> None:
    """Print one line, of a file for instance, in which tabs are meant."""
    print("\t".join(map(printable, text.split("\t"))), flush=True)


def complain(text: object) -> None:
    """Print one line to standard error that says what is wrong."""
    print(f"mertd: {printable(text)}", file=sys.stderr, flush=True)


def say_aside(text: object) -> None:
    """Print one line to standard error that is no complaint."""
    print(printable(text), file=sys.stderr, flush=True)


def ask_yes(question: str) -> bool:
    """Print a question to standard error, and return whether standard input answers with y or yes; Enter alone means no."""
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.buffer.readline().strip().lower() in (b"y", b"yes")


def show_progress(text: str) -> None:
    """Replace the last line of standard error, if it is a terminal."""
    if sys.stderr.isatty() and obeys_escapes():
        print(f"\r\x1b[K{printable(text)}", end="\r", file=sys.stderr, flush=True)


def show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, as `sys.excepthook` does; its message may hold foreign text."""
    import traceback

    for line in "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n"):
        print(printable(line), file=sys.stderr, flush=True)


def log_safely() -> None:
    """Make what libraries log harmless, too. A process without a log of its own prints warnings to standard error."""
    import logging

    class PrintableFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = super().format(record)
            return "\n".join(map(printable, text.split("\n") if record.exc_info else [text]))

    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())


def new_console(stderr: bool = False, **options: Any) -> Console:
    """Return a console of rich that takes nothing in a text for markup or emoji, as `[red]`, and colours no numbers."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False, **options)
    if console.width < 1:  # COLUMNS=0 is what some terminals say of which the size is not known
        console.width = UNKNOWN_WIDTH
    return console


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error, if that is a terminal, what is being done. Yields a function that changes the text."""
    from rich.text import Text

    console = new_console(stderr=True)
    with console.status(Text(printable(text)), spinner=spinner_name(console)) as status:
        yield lambda changed: status.update(Text(printable(changed)))


def spinner_name(console: Console) -> str:
    """Return one of rich's spinners that the terminal's encoding has the characters for."""
    return "dots" if console.encoding.startswith("utf") else "line"


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Within, the command ends when its output cannot be written; in order if its reader has left, as `head` does.

    Raises `OutputError` for any other reason.
    """
    with contextlib.suppress(BrokenPipeError), raising_output():
        yield
