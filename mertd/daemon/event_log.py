"""Events of the wire as lines of the log."""

from __future__ import annotations

import logging

from mertd.logs import log_fields
from mertd.vocabulary import EventName
from mertd.wire import Event

log = logging.getLogger(__name__)

LEVELS = {
    EventName.SILENT: logging.DEBUG,  # as often as windows are due
    EventName.DEVICE_LOST: logging.WARNING,
    EventName.OVERFLOW: logging.WARNING,
    EventName.SKIPPED: logging.WARNING,
    EventName.BACKEND_CHANGED: logging.WARNING,
    EventName.ZEROS: logging.WARNING,
    EventName.FAILED: logging.ERROR,
}
"""Levels of events; all others are logged at level `info`."""


def log_event(message: Event) -> None:
    """Log an event as one line."""
    name = message.event
    if name == EventName.HEALTH:  # the managed process logs it, once for all streams
        return
    level = LEVELS.get(EventName(name), logging.INFO)
    detail = "".join(f" {key}={_quote(value)}" for key, value in message.detail.items() if key != "message")
    more = log_fields(event=name, stream=message.stream, epoch=message.epoch, index=message.index, detail=dict(message.detail))
    # The name is part of the words before the values, by which the log tells kinds of lines apart.
    words = f"%s: {name}" + (": %s%s" if "message" in message.detail else "%s%s")
    log.log(level, words, message.stream, message.detail.get("message", ""), detail, extra=more)


def _quote(value: object) -> str:
    """Return a value as it stands in the log: in quotes if it is more than one word."""
    return repr(value) if " " in str(value) else str(value)
