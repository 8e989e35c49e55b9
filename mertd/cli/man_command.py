"""`mertd man`: the manual page, generated from the commands themselves (man(7))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from mertd import __version__
from mertd.cli.lazy_group import single_command
from mertd.cli.output import say_page

EXIT_STATUS = (
    ("0", "Done."),
    ("1", "A bug; the traceback is shown."),
    ("2", "Wrong usage or configuration."),
    ("3", "Could not start, or could not go on; the message says what to do."),
    ("130", "Interrupted by Ctrl-C."),
)

VALUE_NAMES = {"path": "PATH", "float": "NUMBER", "int": "NUMBER", "float range": "NUMBER", "integer range": "NUMBER"}
"""Placeholders for values, by type; all other types have TEXT."""

commands = single_command()


@commands.command()
def man(context: typer.Context) -> None:
    """Print the manual page, for `man -l -`."""
    say_page(page(context.find_root().command).rstrip("\n"))


def page(root: Any) -> str:
    """Return the page of a group and of all commands below it."""
    lines = [f'.TH MERTD 1 "" "mertd {__version__}" "User Commands"', ".SH NAME", f"mertd \\- {_text(_first(root.help))}"]
    lines += [".SH SYNOPSIS", ".B mertd", "COMMAND [OPTIONS]", ".SH DESCRIPTION", _text(root.help)]
    lines += [".SH OPTIONS", *_parameters(root), ".SH COMMANDS"]
    for words, command in _commands(root, ()):
        usage = " ".join(_usage(command))
        lines += [f'.SS "mertd {_text(" ".join(words))}{" " + _text(usage) if usage else ""}"', _text(command.help or "")]
        lines += _parameters(command)
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXIT_STATUS:
        lines += [".TP", f".B {code}", _text(meaning)]
    return "\n".join(lines) + "\n"


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield all commands that are no groups, with the words that call them."""
    context = typer.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if hasattr(below, "list_commands"):
            yield from _commands(below, (*words, name))
        elif not below.hidden:
            yield (*words, name), below


def _usage(command: Any) -> Iterator[str]:
    if any(parameter.param_type_name == "option" for parameter in command.params):
        yield "[OPTIONS]"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name).upper().strip("[]").removesuffix("...")
            many = name + ("..." if parameter.nargs == -1 else "")
            yield many if parameter.required else f"[{many}]"


def _parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        value = "" if parameter.is_flag else f" {parameter.metavar or VALUE_NAMES.get(parameter.type.name, 'TEXT')}"
        yield ".TP"
        yield f".B {_text(', '.join(parameter.opts) + value)}"
        yield _text(parameter.help or "")


def _first(text: str) -> str:
    """Return a sentence in the form of the line under NAME."""
    return text[:1].lower() + text[1:].rstrip(".")


def _text(text: str) -> str:
    """Escape what roff would take for a request."""
    words = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\\&" + words if words[:1] in (".", "'") else words
