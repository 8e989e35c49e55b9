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
from mertd.metrics.definitions import DEFINITIONS
from mertd.stream import endpoint, envelope, request
from mertd.stream.server import (
    connection,
    connections,
    control_server,
    history,
    paging,
    publisher,
    subscriptions,
    unread,
)
from mertd.wire import MAX_BYTES

DOCS = Path(__file__).parent
VALUES = {"path": "PATH", "float": "NUMBER", "int": "NUMBER", "integer": "NUMBER"}
"""What stands for a value, by the first word of its type's name; TEXT for all others."""

CUT_OFF = "the connection is cut off"
CUT_OFF_SHORT = "is cut off"


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


def amount(value: float) -> str:
    """Return a number of bytes in the unit that fits."""
    for unit, size in (("MiB", 1 << 20), ("kiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g} bytes"


def backlog(which: str) -> str:
    """Return a limit on what clients have sent and the daemon has not read, of both sockets."""
    return ", ".join(f"{amount(getattr(limit, which))} ({domain})" for domain, limit in connection.BACKLOG_LIMITS.items())


def limits() -> str:
    """Return what the daemon and the client library bound."""
    shares = f"{control_server.LOOP_TIME.per_second:.0%}, and {control_server.PAGE_TIME.per_second:.0%} for pages of history"
    asks, pages, changes = control_server.REQUESTS, paging.PAGE_BYTES, subscriptions.CHANGES
    body = [
        ["a message", amount(MAX_BYTES), "the daemon does not publish it; the client library refuses it"],
        ["messages queued for one subscriber", f"{publisher.HIGH_WATER_MARK}", "it misses messages, and sees that in `seq`"],
        ["a topic", amount(subscriptions.MAX_TOPIC_BYTES), CUT_OFF],
        ["topics of a connection", f"{subscriptions.MAX_TOPICS_PER_CONNECTION}", CUT_OFF],
        ["topics of a key", f"{subscriptions.MAX_TOPICS_PER_KEY}", CUT_OFF],
        ["subscriptions made or ended", f"{changes.per_second:g} a second, {changes.burst:g} in reserve", CUT_OFF],
        ["memory for all topics", amount(subscriptions.MAX_COST_BYTES), f"the connection that exceeds it {CUT_OFF_SHORT}"],
        ["a request", amount(envelope.MAX_REQUEST), CUT_OFF],
        ["requests of a client or key", f"{asks.per_second:g} a second, {asks.burst:g} in reserve", "an error as answer"],
        ["event loop's time for requests", shares, "requests wait"],
        ["bytes sent and not yet read, one connection", backlog("of_one"), CUT_OFF],
        ["bytes sent and not yet read, all connections", backlog("of_all"), f"the largest {CUT_OFF_SHORT}"],
        ["a page of history", f"{history.PAGE_MESSAGES} messages, {amount(history.PAGE_BYTES)}", "`more` is true"],
        ["history that a client reads", f"{pages.per_second / 1e6:g} MB a second", "its next page waits"],
        ["pages that a client waits for", f"{paging.MAX_WAITING_PER_CLIENT}", "an error as answer"],
        ["requests waiting for a window (`now`)", f"{control_server.WAITING}", "an error as answer"],
        ["answers not read, one connection", amount(unread.MAX_UNREAD_BYTES), CUT_OFF],
        ["answers not read, all connections", amount(unread.MAX_UNREAD_BYTES_IN_ALL), f"the largest {CUT_OFF_SHORT}"],
        ["connections", f"{connections.MAX_CONNECTIONS}, or fewer if there are few descriptors", f"one {CUT_OFF_SHORT}"],
        ["a handshake", f"{endpoint.HANDSHAKE_MS / 1000:g} s", CUT_OFF],
        ["an answer that the client library reads", amount(request.MAX_REPLY), "the connection is closed"],
    ]
    return rows(["what", "limit", "beyond it"], body)


def metrics() -> str:
    """Return all metrics for Prometheus."""
    body = [
        [f"`{one.name}`", one.kind.value, " ".join(f"`{label}`" for label in one.labels), cell(one.meaning)]
        for one in DEFINITIONS.values()
    ]
    return rows(["metric", "type", "labels", "meaning"], body)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("configuration.md", settings),
    "commands": ("commands.md", commands),
    "limits": ("security.md", limits),
    "sources": ("sources.md", sources),
    "metrics": ("metrics.md", metrics),
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
