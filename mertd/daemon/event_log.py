"""Events of the wire as lines of the log."""

from __future__ import annotations

import logging

from mertd.logs import log_fields
from mertd.wire import Event

log = logging.getLogger(__name__)

LEVELS = {
    "silent": logging.DEBUG,  # as often as windows are due
    **dict.fromkeys(("device_lost", "overflow", "skipped", "backend_changed", "zeros"), logging.WARNING),
    "failed": logging.ERROR,
}
"""Of events in the log; others are worth an `info`."""


def log_event(message: Event) -> None:
    """One line, at a level that fits."""
    if message.event == "health":  # the keeper logs changes of health, once for all streams
        return
    name = message.event
    level = LEVELS.get(name, logging.INFO)
    detail = "".join(f" {key}={_word(value)}" for key, value in message.detail.items() if key != "message")
    more = log_fields(event=name, stream=message.stream, epoch=message.epoch, index=message.index, detail=dict(message.detail))
    # The event belongs to the words, by which lines of a kind are told.
    words = f"%s: {name}" + (": %s%s" if "message" in message.detail else "%s%s")
    log.log(level, words, message.stream, message.detail.get("message", ""), detail, extra=more)


def _word(value: object) -> str:
    """A value in a line of the log: quoted if it is not one word."""
    return repr(value) if " " in str(value) else str(value)
