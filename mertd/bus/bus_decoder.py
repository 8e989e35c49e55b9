"""What a JetStream stream holds, as messages. What is none is counted and said: anyone who may publish can put it there."""

from __future__ import annotations

import logging
import time

from mertd.bus.bus_holes import BusHole, as_hole
from mertd.bus.stream_consumer import Stored
from mertd.bus.subjects import parse_subject
from mertd.errors import BusError, WireError
from mertd.text import printable
from mertd.wire import Embedding, Event, decode

REPORT_S = 60.0
"""Seconds between two lines of the log that say how much was refused."""

log = logging.getLogger(__name__)


class BusDecoder:
    """Decodes what is on the bus.

    Attributes:
        refused: messages that were left out because they are not the wire's.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._reports_at = float("-inf")  # monotonic seconds

    def message(self, stored: Stored) -> Embedding | Event | BusHole | None:
        """Return a message, or the hole that it announces; None if it is neither."""
        try:
            found = _decoded(stored)
            return as_hole(found) or found
        except (WireError, BusError, UnicodeError) as error:
            self.refused += 1
            if time.monotonic() >= self._reports_at:
                self._reports_at = time.monotonic() + REPORT_S
                log.warning(
                    "message %d of the bus, %s, is left out: %s; %d so far",
                    *(stored.place.seq - 1, printable(stored.subject, 200), printable(str(error), 300), self.refused),
                )
            return None


def _decoded(stored: Stored) -> Embedding | Event:
    """Return the message in what a stream holds. Raises `WireError` or `BusError` if it is none, or of another subject."""
    subject = parse_subject(stored.subject)
    message = decode([f"{subject.kind}/{subject.stream}/".encode(errors="surrogatepass"), stored.payload])
    if not isinstance(message, Embedding | Event) or message.daemon != subject.daemon:
        raise BusError(f"a message of {printable(getattr(message, 'daemon', ''), 100)} under the subject of another daemon")
    return message
