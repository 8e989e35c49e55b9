"""Write the tables of the pages that follow from code: `python docs/tables.py` (with `--check`, only say what differs).

A page marks a table with `<!-- table: NAME … -->` and `<!-- end -->`; what stands between them is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
import typer.main

from mertd.capture.source_kinds import KINDS, Consent
from mertd.cli.app import app
from mertd.config import LIVE_SETTINGS, Settings, as_toml

DOCS = Path(__file__).parent
VALUES = {"path": "PATH", "float": "NUMBER", "int": "NUMBER", "integer": "NUMBER"}
"""What stands for a value, by the first word of its type's name; TEXT for all others."""


def cell(text: object) -> str:
    """Return a text as it may stand in a table."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def rows(head: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings() -> str:
    """Return all settings of the daemon."""
    body = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{as_toml(field.default)}`"
        text = (field.description or "").replace(" Can change live.", "")
        body.append([f"`{name}`", default, "yes" if name in LIVE_SETTINGS else "", cell(text)])
    return rows(["setting", "default", "live", "meaning"], body)


def option(parameter: Any) -> list[str]:
    """Return the row of one option or argument of a command."""
    name = " ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name
    if parameter.param_type_name == "option" and not parameter.is_flag:
        kind = parameter.type.name.partition(" ")[0]
        name += " " + (parameter.metavar or VALUES.get(kind, "TEXT"))
    default = parameter.default
    shown = (
        "" if callable(default) or default in (None, False, ()) or "Sentinel" in repr(default) else f" Default: `{default}`."
    )
    return [f"`{name}`", cell(parameter.help or "") + shown]


def commands() -> str:
    """Return a section for every command, with its options."""
    parts: list[str] = []

    def describe(command: Any, path: str) -> None:
        if hasattr(command, "list_commands"):
            context = typer.Context(command)
            for name in command.list_commands(context):
                describe(command.get_command(context, name), f"{path} {name}")
            return
        shown = [parameter for parameter in command.params if parameter.name != "help"]
        head = f"## {path}\n\n{(command.help or '').strip()}"
        table = "\n\n" + rows(["option", "meaning"], [option(parameter) for parameter in shown]) if shown else ""
        parts.append(head + table)

    describe(typer.main.get_command(app), "mertd")
    return "\n\n".join(parts)


def sources() -> str:
    """Return the kinds of sources."""
    consents = {None: "none", Consent.MICROPHONE: "microphone", Consent.SYSTEM_AUDIO: "system audio"}
    body = []
    for kind in KINDS.values():
        resumes = "yes" if kind.resumable else "no, it would begin again"
        resumes += ", except standard input" if kind.stdin else ""
        body.append([f"`{kind.form}`", cell(kind.summary), resumes, consents[kind.consent]])
    return rows(["address", "what is heard", "resumes after a loss", "consent on a Mac"], body)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("configuration.md", settings),
    "commands": ("commands.md", commands),
    "sources": ("sources.md", sources),
}
"""Tables by name: the page that holds it, and what makes it."""


def updated(text: str, name: str, table: str) -> str:
    """Return the text of a page with a table written anew. Raises `ValueError` if the page has no such mark."""
    pattern = re.compile(rf"(<!-- table: {name}\b[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    text, count = pattern.subn(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text)
    if count != 1:
        raise ValueError(f"{count} marks for the table {name!r}; expected one")
    return text


def main() -> None:
    for name, (page, make) in TABLES.items():
        path = DOCS / page
        old = path.read_text(encoding="utf-8")
        new = updated(old, name, make())
        if new != old and "--check" in sys.argv:
            raise SystemExit(f"{page}: the table {name!r} differs from the code; run `python docs/tables.py`")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
