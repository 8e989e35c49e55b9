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
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_connection import close_bus, open_bus
from mertd.errors import BusError
from mertd.text import printable

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from mertd.bus.nats_client import BusClient

STREAM = "mertd"
"""Name of the JetStream stream, unless another one is given."""

BATCH = 256
"""Messages that are asked for at once."""

BATCH_BYTES = 16 << 20
"""Bytes of them, at most: a server may hold messages of any size."""

EXPIRES_S = 20.0
"""Seconds for which the server may wait for messages before it answers that there are none."""

HEARTBEAT_S = 1.0
"""Seconds after which the server says that it is still waiting."""

SILENCE_S = 3.0
"""Seconds without a word from the consumer after which it is made anew."""

REQUEST_S = 3.0
"""Seconds for the answer to a request."""

RETRY_S = 0.25
"""Seconds until the next attempt; after each failure twice as many."""

MAX_RETRY_S = 2.0
"""Seconds between two attempts, at most."""

UNUSED_S = 60.0
"""Seconds after which the server deletes a consumer that nobody asks."""

MARGIN_NS = 600 * 10**9
"""Nanoseconds by which the clocks of servers and daemons may differ: messages since a time are looked for from before it."""

NOT_FOUND = 404
"""Code of JetStream's answer for a stream that does not exist."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamPlace:
    """The next message of a stream. `created`: which stream of this name it is; another one numbers its messages anew."""

    created: str
    seq: int


@dataclass(frozen=True)
class Stored:
    """A message as it is in the stream, and the place behind it."""

    subject: str
    payload: bytes
    place: StreamPlace


@dataclass(frozen=True)
class Reading:
    """What to read. `filters`: subjects. `place`: where to begin.

    Without a place: `since_ns`, Unix nanoseconds, or None for what comes from now on.
    """

    access: BusAccess
    stream: str
    filters: tuple[str, ...]
    place: StreamPlace | None = None
    since_ns: int | None = None


class InterruptedReadingError(Exception):
    """The consumer is of no use any more; the reason is the text."""


class StreamReader:
    """Reads for ever, and hands over each message once, in the order of the stream."""

    def __init__(self, reading: Reading, give: Callable[[Stored], Awaitable[None]]) -> None:
        """`give`: takes a message, and may wait until there is room for it."""
        self._reading = reading
        self._access = reading.access
        self._place = reading.place
        self._give = give
        self._complaint = ""
        self._came = 0  # messages since the last failure
        self._one_by_one = False  # the next message is larger than `BATCH_BYTES`

    async def run(self) -> None:
        """Read until cancelled. What goes wrong is logged once, and tried again."""
        failures = 0
        while True:
            self._came = 0
            try:
                await self._connect_and_read()
            except BusError as error:
                self._complain(str(error))
            except InterruptedReadingError as error:
                log.debug("reading the bus is interrupted: %s", error)
            failures = 0 if self._came else failures + 1
            servers = self._access.servers
            self._access = replace(self._access, servers=(*servers[1:], servers[0]))
            await asyncio.sleep(min(MAX_RETRY_S, RETRY_S * 2 ** min(failures, 8)) if failures else 0)

    async def _connect_and_read(self) -> None:
        client = await open_bus(self._access, "mertd reader")
        try:
            await _Consumer(client, self._reading.stream).read(self)
        except (TimeoutError, OSError, ValueError, KeyError, _nats_error()) as error:
            reason = client.reason or error
            if "permissions violation" in str(reason).lower():
                raise BusError(f"{client.server} does not let this client read: {printable(str(reason), 300)}") from error
            raise InterruptedReadingError(f"{client.server}: {reason!r}") from error
        finally:
            await close_bus(client)

    # What the consumer asks and tells

    def beginning(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the consumer's configuration for a stream as it is now. Raises `BusError`."""
        created, state = str(info["created"]), info["state"]
        first, behind = int(state["first_seq"]), int(state["last_seq"]) + 1
        if (retention := info["config"].get("retention")) == "workqueue":
            raise BusError(f"the stream {self._reading.stream} has retention {retention}; expected limits")
        place = self._place
        if place is None and self._reading.since_ns is not None:
            return {"deliver_policy": "by_start_time", "opt_start_time": _rfc3339(self._reading.since_ns - MARGIN_NS)}
        if place is None:
            place = StreamPlace(created, behind)
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
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, place.seq)}

    def request(self) -> dict[str, Any]:
        """Return what to ask a consumer for."""
        limits = {"batch": 1} if self._one_by_one else {"batch": BATCH, "max_bytes": BATCH_BYTES}
        return {**limits, "expires": _ns(EXPIRES_S), "idle_heartbeat": _ns(HEARTBEAT_S)}

    def filters(self) -> dict[str, Any]:
        """Return the subjects for a consumer's configuration."""
        one, *others = self._reading.filters
        return {"filter_subjects": self._reading.filters} if others else {"filter_subject": one}

    async def give(self, message: Stored) -> None:
        """Hand over a message, which is behind those before it."""
        self._complaint = ""
        self._came += 1
        self._one_by_one = False
        if self._place is None or message.place.seq > self._place.seq or message.place.created != self._place.created:
            self._place = message.place
            await self._give(message)

    def too_large(self) -> None:
        """The next message is larger than `BATCH_BYTES`: ask for it alone."""
        self._one_by_one = True

    def _complain(self, text: str) -> None:
        """Log a fault once, until there is another or it is over."""
        if text != self._complaint:
            self._complaint = text
            log.warning("%s; trying again", printable(text, 500))


class _Consumer:
    """A consumer on the server, as long as it lasts."""

    def __init__(self, client: BusClient, stream: str) -> None:
        self._client, self._stream = client, stream
        self._name = f"mertd_{secrets.token_hex(8)}"
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._created = ""
        self._number = 0  # of the consumer's last message, by its own count

    async def read(self, reader: StreamReader) -> None:
        """Make it, and hand over what comes. Ends only with an exception."""
        watch = asyncio.ensure_future(self._watch())
        try:
            info = await self._ask(f"STREAM.INFO.{self._stream}", {})
            self._created = str(info["created"])
            inbox = self._client.new_inbox()
            await self._client.subscribe(inbox, cb=self._arrived.put)
            config = {
                **reader.beginning(info),
                **reader.filters(),
                "name": self._name,
                "ack_policy": "none",
                "max_deliver": 1,
                "replay_policy": "instant",
                "inactive_threshold": _ns(UNUSED_S),
                "num_replicas": 1,
                "mem_storage": True,
            }
            body = {"stream_name": self._stream, "config": config, "action": "create"}
            await self._ask(f"CONSUMER.CREATE.{self._stream}.{self._name}", body)
            while True:
                request = json.dumps(reader.request()).encode()
                await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}", request, reply=inbox)
                await self._batch(reader)
        finally:
            watch.cancel()
            with suppress(Exception):
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b"")

    async def _watch(self) -> None:
        await self._client.broken.wait()
        self._arrived.put_nowait(None)

    async def _batch(self, reader: StreamReader) -> None:
        """Hand over the answers to one request."""
        wanted = int(reader.request()["batch"])
        came = 0
        while came < wanted:
            async with asyncio.timeout(SILENCE_S):
                message = await self._arrived.get()
            if message is None:
                raise InterruptedReadingError(f"the connection broke: {self._client.reason}")
            if message.reply.startswith("$JS.ACK."):
                await reader.give(self._stored(message))
                came += 1
                continue
            headers = message.headers or {}
            status, text = headers.get("Status", ""), headers.get("Description", "")
            if status == "100":
                continue
            if status == "409" and "maxbytes" in text.lower().replace(" ", ""):
                if not came:
                    reader.too_large()
                return
            if status not in ("404", "408"):
                raise InterruptedReadingError(f"{status} {text}")
            return

    def _stored(self, message: Msg) -> Stored:
        """Return a message that came. Raises `InterruptedReadingError` if one before it did not."""
        tokens = message.reply.split(".")
        # $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQ.NUMBER.TIME.PENDING, or with domain and account before the stream.
        at = 5 if len(tokens) == 9 else 7
        seq, number = int(tokens[at]), int(tokens[at + 1])
        if number != self._number + 1:
            raise InterruptedReadingError(f"message {number} of the consumer came after {self._number}")
        self._number = number
        return Stored(message.subject, message.data, StreamPlace(self._created, seq + 1))

    async def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return JetStream's answer. Raises `BusError` if it is an error, `InterruptedReadingError` for one that will pass."""
        reply = await self._client.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=REQUEST_S)
        answer: dict[str, Any] = json.loads(reply.data)
        if (error := answer.get("error")) is None:
            return answer
        text = printable(str(error.get("description", error)), 300)
        if error.get("code") == NOT_FOUND:
            raise BusError(f"{self._client.server} has no stream {self._stream} yet; `mertd relay --create` makes it")
        if error.get("code") in (500, 503):  # no leader at this moment
            raise InterruptedReadingError(text)
        raise BusError(f"{self._client.server} does not let this client read the stream {self._stream}: {text}")


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _rfc3339(unix_ns: int) -> str:
    from datetime import UTC, datetime

    lowest = datetime(1970, 1, 2, tzinfo=UTC)
    try:
        found = max(lowest, datetime.fromtimestamp(unix_ns // 10**9, UTC))
    except (ValueError, OverflowError, OSError):
        found = lowest if unix_ns < 0 else datetime(9999, 1, 1, tzinfo=UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def _nats_error() -> type[Exception]:
    from nats.errors import Error

    return Error
