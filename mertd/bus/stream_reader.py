"""Read a JetStream stream in order, from a place that the client keeps, through everything that servers and networks do.

Why not a durable consumer whose acknowledgements keep the place: what was delivered and not acknowledged comes again only
after `ack_wait`, behind newer messages, so a client that was killed gets its stream out of order; a durable consumer may be
behind its client's disk or, after a crash of the server, ahead of the stream, where nothing comes any more; and it says nothing
of messages that expired. So the client keeps the sequence number of the stream together with what it has made of the messages,
in one file or one transaction, and what is on its disk is what it is done with.

The server has a consumer only as long as someone reads: in memory, without acknowledgements, which is asked for messages (pull)
and made anew, behind the last message that came, whenever anything is strange: a message missing, no heartbeat, a leader gone,
a connection broken. Then another server is asked, because one that was cut off from the others still accepts clients, but does
not answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_connection import close_bus, open_bus
from mertd.bus.last_messages import filtered, last_messages
from mertd.bus.stream_consumer import InterruptedReadingError, Stored, StreamConsumer, StreamPlace
from mertd.errors import BusError
from mertd.stream.complaint import Complaint
from mertd.text import printable

if TYPE_CHECKING:
    from mertd.bus.nats_client import BusClient

RETRY_S = 0.25
"""Seconds until the next attempt; after each failure twice as many."""

MAX_RETRY_S = 2.0
"""Seconds between two attempts, at most."""

PATIENT_FAILURES = 6
"""Failures in a row after which the log says so: electing a leader takes some seconds."""

MARGIN_NS = 600 * 10**9
"""Nanoseconds by which the clocks of servers and daemons may differ: messages since a time are looked for from before it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What to read. `filters`: subjects. `place`: where to begin.

    Without a place: `since_ns`, Unix nanoseconds; or `last` messages of each subject; or what comes from now on.
    """

    access: BusAccess
    stream: str
    filters: tuple[str, ...]
    place: StreamPlace | None = None
    since_ns: int | None = None
    last: int = 0


class StreamReader:
    """Reads for ever, and hands over each message once, in the order of the stream.

    Attributes:
        begun_at: where it has begun: before all that it hands over. None before the first connection, and for a time.
    """

    def __init__(self, reading: Reading, give: Callable[[Stored], Awaitable[None]]) -> None:
        """`give`: takes a message, and may wait until there is room for it."""
        self._reading = reading
        self._access = reading.access
        self._filters = filtered(reading.filters)
        self._place = self.begun_at = reading.place
        self._give = give
        self._complaint = Complaint(log, logging.WARNING)
        self._came = 0  # messages since the last failure

    async def run(self) -> None:
        """Read until cancelled. What goes wrong is logged once, and tried again."""
        failures = 0
        while True:
            self._came = 0
            try:
                await self._connect_and_read()
            except BusError as error:
                self._complaint.say(f"{error}; trying again")
            except InterruptedReadingError as error:
                log.debug("reading the bus is interrupted: %s", error)
                if failures >= PATIENT_FAILURES:
                    self._complaint.say(f"nothing can be read from the bus at this moment: {error}; trying again")
            failures = 0 if self._came else failures + 1
            servers = self._access.servers
            self._access = replace(self._access, servers=(*servers[1:], servers[0]))
            await asyncio.sleep(min(MAX_RETRY_S, RETRY_S * 2 ** min(failures, 8)) if failures else 0)

    async def _connect_and_read(self) -> None:
        client = await open_bus(self._access, "mertd reader")
        try:
            if self._place is None and self._reading.last:
                await self._begin_with_last(client)
            while True:
                await StreamConsumer(client, self._reading.stream).read(self.beginning, self.give)
        except (TimeoutError, OSError, ValueError, KeyError, _nats_error()) as error:
            if client.forbidden:
                raise BusError(f"{client.server} does not let this client read: {printable(client.forbidden, 300)}") from error
            raise InterruptedReadingError(f"{client.server}: {client.reason or error!r}") from error
        finally:
            await close_bus(client)

    async def _begin_with_last(self, client: BusClient) -> None:
        """Hand over the last messages of each subject, and go on behind them."""
        reading = self._reading
        found = await last_messages(client, reading.stream, reading.filters, reading.last)
        self._place = self.begun_at = found.behind
        for message in found.messages:
            self._came += 1
            await self._give(message)

    # What the consumer calls

    def beginning(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the consumer's configuration for a stream as it is now. Raises `BusError`."""
        created, state = str(info["created"]), info["state"]
        first, behind = int(state["first_seq"]), int(state["last_seq"]) + 1
        if (retention := info["config"].get("retention", "limits")) != "limits":  # it deletes what one reader has read
            raise BusError(f"the stream {self._reading.stream} has retention {printable(retention, 50)}; expected limits")
        place = self._place
        if place is None and self._reading.since_ns is not None:
            begun = _rfc3339(self._reading.since_ns - MARGIN_NS)
            return {**self._filters, "deliver_policy": "by_start_time", "opt_start_time": begun}
        if place is None:
            place = self.begun_at = StreamPlace(created, behind)
        elif place.created != created or place.seq > behind:
            why = "was made anew" if place.created != created else f"ends before message {place.seq}, where this client is"
            log.warning("the stream %s %s; reading it from its beginning", self._reading.stream, why)
            place = StreamPlace(created, first)
        elif first > place.seq:
            log.warning(
                "%d messages of the stream %s, of all daemons, expired before they were read; it begins with message %d now",
                *(first - place.seq, self._reading.stream, first),
            )
            place = StreamPlace(created, first)
        self._place = place
        return {**self._filters, "deliver_policy": "by_start_sequence", "opt_start_seq": max(1, place.seq)}

    async def give(self, message: Stored) -> None:
        """Hand over a message, which is behind those before it."""
        self._complaint.over()
        self._came += 1
        if self._place is None or message.place.seq > self._place.seq or message.place.created != self._place.created:
            self._place = message.place
            await self._give(message)


def _rfc3339(unix_ns: int) -> str:
    lowest = datetime(1970, 1, 2, tzinfo=UTC)
    try:
        found = max(lowest, datetime.fromtimestamp(unix_ns // 10**9, UTC))
    except (ValueError, OverflowError, OSError):
        found = lowest if unix_ns < 0 else datetime(9999, 1, 1, tzinfo=UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def _nats_error() -> type[Exception]:
    from nats.errors import Error

    return Error
