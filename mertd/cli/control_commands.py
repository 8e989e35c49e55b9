"""`mertd control`: requests to a running daemon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import command_group
from mertd.cli.options import Control, Gate, Hop, Json, Key, KeyFolder, ServerKey, Stream, TextTimes
from mertd.defaults import CONTROL_ENDPOINT

ANSWER_S = 5.0
"""Seconds to wait for an answer."""

NOW_S = 120.0
"""Seconds to wait for an embedding: a full network on a slow processor, behind one that is being computed."""

commands = command_group("control")


@dataclass(frozen=True)
class Way:
    """Where a request goes, with which keys, and how the answer is printed: the options that all requests share."""

    control: str
    json: bool
    text_times: bool
    key: str | None
    server_key: str | None
    folder: Path | None


@commands.command()
def now(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    text_times: TextTimes = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Embed the newest window at once; every subscriber gets it too."""
    _request({"request": "now", "stream": stream}, Way(control, json, text_times, key, server_key, folder), NOW_S)


@commands.command()
def pause(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    text_times: TextTimes = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Close a stream's device, so that nothing hears it."""
    _request({"request": "pause", "stream": stream}, Way(control, json, text_times, key, server_key, folder))


@commands.command()
def resume(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    text_times: TextTimes = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Open a paused stream's device again."""
    _request({"request": "resume", "stream": stream}, Way(control, json, text_times, key, server_key, folder))


@commands.command("set")
def set_(
    hop: Hop = None,
    gate: Gate = None,
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    text_times: TextTimes = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Change the hop or the gate of one stream or all, until the daemon stops."""
    _request(
        {"request": "set", "stream": stream, "hop": hop, "gate": gate}, Way(control, json, text_times, key, server_key, folder)
    )


@commands.command()
def shutdown(
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    text_times: TextTimes = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Stop the daemon in order."""
    _request({"request": "shutdown"}, Way(control, json, text_times, key, server_key, folder))


def _request(request: dict[str, Any], way: Way, timeout_s: float = ANSWER_S) -> None:
    """Send a request, without the options that were not given, and print the answer. Raises what `ask` raises."""
    from mertd.cli.message_printer import MessagePrinter
    from mertd.stream.request import ask

    keys = client_keys(way.control, way.key, way.server_key, way.folder)
    printer = MessagePrinter(way.json, way.text_times)
    for message in ask(way.control, {name: value for name, value in request.items() if value is not None}, timeout_s, keys):
        printer.show(message)
