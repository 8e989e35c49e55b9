"""`mertd control`: requests to a running daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import command_group
from mertd.cli.message_format import MessageFormatter
from mertd.cli.options import Control, Gate, Hop, Json, Key, KeyFolder, ServerKey, Stream
from mertd.cli.output import say, say_json
from mertd.defaults import CONTROL_ENDPOINT
from mertd.stream.request import ask
from mertd.wire import Embedding, Event, as_json

ANSWER_S = 5.0
"""Seconds to wait for an answer."""

NOW_S = 120.0
"""Seconds to wait for an embedding: a full network on a slow processor, behind one that is being computed."""

commands = command_group("control")


@commands.command()
def now(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Embed the newest window at once; every subscriber gets it too."""
    _request({"request": "now", "stream": stream}, control, json, key, server_key, folder, NOW_S)


@commands.command()
def pause(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Close a stream's device, so that nothing hears it."""
    _request({"request": "pause", "stream": stream}, control, json, key, server_key, folder)


@commands.command()
def resume(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Open a paused stream's device again."""
    _request({"request": "resume", "stream": stream}, control, json, key, server_key, folder)


@commands.command("set")
def set_(
    hop: Hop = None,
    gate: Gate = None,
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Change the hop or the gate of one stream or all, until the daemon stops."""
    _request({"request": "set", "stream": stream, "hop": hop, "gate": gate}, control, json, key, server_key, folder)


@commands.command()
def shutdown(
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Stop the daemon in order."""
    _request({"request": "shutdown"}, control, json, key, server_key, folder)


def _request(
    request: dict[str, Any],
    control: str,
    json: bool,
    key: str | None,
    server_key: str | None,
    folder: Path | None,
    timeout_s: float = ANSWER_S,
) -> None:
    """Send a request, without the options that were not given, and print the answer. Raises what `ask` raises."""
    keys = client_keys(control, key, server_key, folder)
    formatter = MessageFormatter()
    for message in ask(control, {name: value for name, value in request.items() if value is not None}, timeout_s, keys):
        if json:
            say_json(as_json(message))
        elif isinstance(message, Embedding):
            say(formatter.embedding(message))
        elif isinstance(message, Event):
            say(formatter.event(message))
