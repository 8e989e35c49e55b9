"""Print messages: as lines for people, or as JSON for programs."""

from __future__ import annotations

from typing import Any

from mertd.cli.message_format import MessageFormatter
from mertd.cli.output import say, say_json
from mertd.wire import Embedding, Event, Message, as_json


class MessagePrinter:
    """Prints embeddings and events. A status is printed as JSON only: as lines, `mertd status` shows it."""

    def __init__(self, json: bool, text_times: bool) -> None:
        """`json`: print JSON. `text_times`: and in it times as text."""
        self._json, self._text_times = json or text_times, text_times
        self._formatter = MessageFormatter()

    def show(self, message: Message) -> None:
        """Print a message."""
        if self._json:
            value = as_json(message)
            say_json(with_text_times(value) if self._text_times else value)
        elif isinstance(message, Embedding):
            say(self._formatter.embedding(message))
        elif isinstance(message, Event):
            say(self._formatter.event(message))


def with_text_times(value: dict[str, Any]) -> dict[str, Any]:
    """Return a message in which every integer whose key ends in `_ns` is text; maps in it are treated alike.

    These are the only integers of a message that can exceed 2 to the power of 53, beyond which JavaScript and jq round.
    """
    changed: dict[str, Any] = {}
    for key, one in value.items():
        if isinstance(one, dict):
            changed[key] = with_text_times(one)
        else:
            changed[key] = str(one) if str(key).endswith("_ns") and type(one) is int else one
    return changed
