"""The program `mertd`: its commands, each loaded when it is called, and the gate where errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from mertd.cli.lazy_group import LazyGroup
from mertd.cli.output import complain, log_safely, say, show_bug
from mertd.cli.standard_streams import check_output
from mertd.errors import MertdError, refused_by_system
from mertd.text import printable

WRONG_USAGE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""What typer raises for options and arguments that it cannot read; the class itself is part of a library inside typer."""

app = typer.Typer(
    name="mertd",
    cls=LazyGroup,
    help="Listen to a sound card and publish what the music is like, as MERT embeddings over ZeroMQ.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its help pages cost 0.2 s of imports
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    sys.excepthook = show_bug
    try:
        code = _call(arguments)
        check_output()
    except MertdError as error:
        refusal = error
    except (OSError, MemoryError) as error:
        explained = refused_by_system(error)
        if explained is None:
            raise
        refusal = explained
    else:
        return code
    for line in refusal.args:
        complain(line)
    return refusal.exit_code


def _call(arguments: list[str]) -> int:
    try:
        code = app(arguments, standalone_mode=False)
    except WRONG_USAGE as error:
        if error.ctx is None or error.message != error.ctx.get_help():
            error.message = printable(error.message)
        error.show()
        return int(error.exit_code)
    except SystemExit as exiting:
        return exiting.code if isinstance(exiting.code, int) else 0
    return code if isinstance(code, int) else 0  # a number if the command raised `typer.Exit`; 130 after Ctrl-C


def _print_version(requested: bool) -> None:
    if requested:
        from mertd import __version__

        say(f"mertd {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of the program itself, which come before any command."""
    log_safely()
