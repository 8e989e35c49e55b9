"""`mertd control`: what a running daemon can be told."""

from __future__ import annotations

from typing import Any

from mertd.cli.output import say, say_json
from mertd.cli.show import Lines
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.request import ask
from mertd.wire import Embedding, Event, as_json

NOW_S = 120.0
"""How long an embedding may take: a full network on a slow processor, behind one that is under way."""


def tell(control: str, request: dict[str, Any], json: bool, keys: ClientKeys | None, timeout_s: float = 5.0) -> None:
    """Send one request, without the options that were not given, and print the answer. Raises what `ask` raises."""
    lines = Lines()
    for message in ask(control, {key: value for key, value in request.items() if value is not None}, timeout_s, keys):
        if json:
            say_json(as_json(message))
        elif isinstance(message, Embedding):
            say(lines.embedding(message))
        elif isinstance(message, Event):
            say(lines.event(message))
