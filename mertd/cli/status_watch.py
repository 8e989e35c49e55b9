"""`mertd status --watch`: the status of a daemon again and again, also over its absence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import typer

from mertd.cli.live_screen import LiveScreen, can_redraw
from mertd.cli.message_printer import MessagePrinter
from mertd.cli.output import complain, reader_may_leave, say
from mertd.cli.stop_signals import StopSignals
from mertd.errors import EndpointError, WireError
from mertd.stream.request import RefusalError
from mertd.wire import Status

PERIOD_S = 1.0
"""Seconds between two questions."""

HEAD = "bold"
"""Style of the first line."""

TROUBLE = "bold red"
"""Style of what is wrong."""


def watch_status(ask: Callable[[], Status], describe: Callable[[Status], Sequence[str]], json: bool, text_times: bool) -> None:
    """Show the status until Ctrl-C or SIGTERM. A daemon that does not answer is asked again.

    `ask` and `describe` raise `EndpointError` or `WireError`. Raises `RefusalError` if the daemon does not let this client ask.
    """
    with StopSignals() as stopping, reader_may_leave():
        if json or text_times or not can_redraw():
            _print(ask, describe, MessagePrinter(json, text_times) if json or text_times else None, stopping)
        else:
            _draw(ask, describe, stopping)
    if stopping():
        raise typer.Exit(128 + stopping.received)


def _print(
    ask: Callable[[], Status],
    describe: Callable[[Status], Sequence[str]],
    printer: MessagePrinter | None,
    stopping: StopSignals,
) -> None:
    """Print a block of lines, or one line of JSON, each time."""
    first = True
    while not stopping():
        try:
            message = ask()
            lines = [] if printer is not None else describe(message)
        except (EndpointError, WireError) as error:
            if isinstance(error, RefusalError):
                raise
            complain(str(error))
        else:
            if printer is not None:
                printer.show(message)
            else:
                for line in lines if first else ["", *lines]:
                    say(line)
                first = False
        stopping.wait(PERIOD_S)


def _draw(ask: Callable[[], Status], describe: Callable[[Status], Sequence[str]], stopping: StopSignals) -> None:
    """Draw the lines each time."""
    lines: list[str] = []
    asked_at = ""
    with LiveScreen() as screen:
        while not stopping():
            try:
                lines = [*describe(ask())]
                asked_at = time.strftime("%H:%M:%S")
                screen.draw([f"{asked_at}  {lines[0]}", *lines[1:]], [HEAD])
            except (EndpointError, WireError) as error:
                if isinstance(error, RefusalError):
                    raise
                before = ["", f"the last status, of {asked_at}:", *lines] if lines else []
                screen.draw([f"{time.strftime('%H:%M:%S')}  {error}", *before], [TROUBLE])
            stopping.wait(PERIOD_S)
