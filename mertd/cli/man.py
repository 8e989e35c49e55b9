"""`mertd man`: the manual page, made from the commands themselves, so that it cannot tell another story (man(7))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mertd import __version__

EXIT_STATUS = (
    ("0", "Done."),
    ("1", "A bug; the traceback is shown."),
    ("2", "Wrong usage or configuration."),
    ("3", "Could not start, or could not go on; the message says what to do."),
    ("130", "Interrupted by Ctrl-C."),
)

VALUES = {"path": "PATH", "float": "NUMBER", "int": "NUMBER", "float range": "NUMBER", "integer range": "NUMBER"}
"""What stands for a value of a type; for all others it is TEXT."""


def page(root: Any) -> str:
    """The page for a click command with all those below it."""
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
    """All commands that do something, with the words that call them."""
    for name, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
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
        value = "" if parameter.is_flag else f" {parameter.metavar or VALUES.get(parameter.type.name, 'TEXT')}"
        yield ".TP"
        yield f".B {_text(', '.join(parameter.opts) + value)}"
        yield _text(parameter.help or "")


def _first(text: str) -> str:
    """What the program does, as the line under NAME has it."""
    return text[:1].lower() + text[1:].rstrip(".")


def _text(text: str) -> str:
    """Plain words, so that roff takes nothing in them for a request."""
    words = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\\&" + words if words[:1] in (".", "'") else words
