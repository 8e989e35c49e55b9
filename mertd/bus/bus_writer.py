"""Writes to the bus: in order, each message once, for as long as it takes.

A batch is done when JetStream has acknowledged all of it. Each batch says what its subjects must end with, so one whose
acknowledgement was lost is found to be there already, however much later it is sent again. Streams that store batches as one
get up to `MAX_BATCH` messages in one step; others one message of each subject at a time.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_batch import Batch, Outgoing, Relayed, Tail, side_by_side, tail_of
from mertd.bus.bus_connection import close_bus, open_bus
from mertd.bus.bus_stream import BusStream, StreamWish, look_at_stream
from mertd.bus.jetstream import (
    DUPLICATE_IN_BATCH,
    MESSAGE_NOT_FOUND,
    NO_ATOMIC,
    WRONG_LAST_SEQUENCE,
    JetStreamError,
    NoAnswerError,
    answered,
    ask_api,
    check_duplicate,
    explained,
    unpack_answer,
)
from mertd.bus.message_id import HEADER, parse_id
from mertd.bus.subjects import KINDS, Subject, parse_subject
from mertd.errors import BusError, WireError
from mertd.stream.client.past import Key, Place, place_after
from mertd.text import printable
from mertd.wire import Embedding, Event, decode

if TYPE_CHECKING:
    from mertd.bus.nats_client import BusClient

MAX_BATCH = 512
"""Messages of one batch. A server takes at most 1,000."""

STORED_S = 10.0
"""Seconds to wait until a batch is acknowledged."""

FIRST_WAIT_S = 0.25
"""Seconds until the second attempt."""

MAX_WAIT_S = 30.0
"""Seconds between two attempts, at most: the wait doubles each time."""

COLLISIONS = 5
"""Attempts to store a batch, each after another look at what is there, before the log says that another client writes it."""

MAX_SAID = 20
"""Faults that are logged until it works again."""

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class BusWriter:
    """Writes what one daemon publishes. Used in one event loop, one call at a time.

    Attributes:
        stored: messages that this writer has stored.
        skipped: messages that were there already.
        complaint: why nothing can be written at present; empty if nothing is known against it.
    """

    def __init__(self, access: BusAccess, wish: StreamWish, daemon: str) -> None:
        self.stored = 0
        self.skipped = 0
        self.complaint = ""
        self._access = access
        self._wish = wish
        self._daemon = daemon
        self._client: BusClient | None = None
        self._stream: BusStream | None = None
        self._tails: dict[str, Tail] = {}
        self._said: set[str] = set()  # faults that were logged

    async def connect(self) -> None:
        """Connect and look at the stream, unless that is done. Raises `BusError`."""
        if self._client is not None and (self._client.broken.is_set() or self._client.is_leaving):
            await self.disconnect()
        if self._client is None:
            self._client = await open_bus(self._access, f"mertd relay {self._daemon}")
        if self._stream is None:
            self._stream = await look_at_stream(self._client, self._access, self._wish, self._daemon)

    async def disconnect(self) -> None:
        """Close the connection, and forget what is known of the stream."""
        client, self._client = self._client, None
        self._stream = None
        self._tails.clear()
        if client is not None:
            await close_bus(client)

    async def places(self, streams: Iterable[str]) -> dict[Key, Place]:
        """Return where the bus is with each kind of these streams, as far as it has any. Tries again until it answers."""
        subjects = [Subject(self._daemon, stream, kind) for stream in streams for kind in KINDS]

        async def ask() -> dict[Key, Place]:
            tails = {subject: await self.tail(str(subject)) for subject in subjects}
            found = {(at.kind, at.stream): Place(tail.boot, tail.next_seq, tail.when_ns) for at, tail in tails.items()}
            return {key: place for key, place in found.items() if place.boot}

        return await self._until_it_works(ask)

    async def write(self, items: Sequence[Relayed]) -> None:
        """Return when all is stored. Tries again until it is; cancel it to give up."""
        await self._until_it_works(lambda: self._store(items))

    async def _until_it_works(self, action: Callable[[], Awaitable[Result]]) -> Result:
        """Return what an action gives, over a connection to the bus, after as many attempts as it takes, with growing waits."""
        wait_s = FIRST_WAIT_S
        while True:
            before = self.stored
            try:
                await self.connect()
                result = await action()
            except BusError as error:
                self._complain(error)
                if not isinstance(error, JetStreamError):
                    await self.disconnect()
                if self.stored > before:
                    wait_s = FIRST_WAIT_S
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # many relays shall not come back at one moment
                wait_s = min(wait_s * 2, MAX_WAIT_S)
                continue
            if self.complaint:
                log.info("the bus at %s takes messages again", self._access)
                self.complaint = ""
                self._said.clear()
            return result

    async def tail(self, subject: str) -> Tail:
        """Return what a subject ends with. Raises `BusError`."""
        if subject not in self._tails:
            self._tails[subject] = await self._ask_tail(subject)
        return self._tails[subject]

    # Storing

    async def _store(self, items: Sequence[Relayed], attempts: int = COLLISIONS) -> None:
        """Store what is not there yet. Raises `BusError`; some of it may be stored then.

        `attempts`: how often it may turn out that another relay of this daemon was faster.
        """
        assert self._stream is not None
        for subject in dict.fromkeys(subject for item in items for subject in item.subjects):
            await self.tail(subject)
        batch = Batch(self._tails, self._stream.max_message)
        batch.add(items)
        self.skipped += batch.known
        try:
            await self._store_outgoing(batch.outgoing, self._stream.atomic)
        except NoAnswerError:
            self._tails.clear()
            raise
        except JetStreamError as error:
            self._tails.clear()
            if error.code in WRONG_LAST_SEQUENCE and attempts > 1:
                await self._store(items, attempts - 1)
                return
            if error.code in WRONG_LAST_SEQUENCE:
                raise BusError(f"another client writes what {self._daemon!r:.100} publishes; looking what is there") from error
            self._stream = None  # its limits may be others by then
            raise

    async def _store_outgoing(self, outgoing: Sequence[Outgoing], atomic: bool) -> None:
        """Store messages in batches if the stream takes those, otherwise one by one. Raises `BusError`."""
        if atomic:
            try:
                for first in range(0, len(outgoing), MAX_BATCH):
                    await self._store_as_one(outgoing[first : first + MAX_BATCH])
                return
            except NoAnswerError:  # a server without room does not answer a batch, but says so of a message
                self._tails.clear()
            except JetStreamError as error:
                if error.code not in (DUPLICATE_IN_BATCH, *NO_ATOMIC):  # one at a time, the server says which it has
                    raise
                self._tails.clear()
        await self._store_singly(outgoing)

    async def _store_as_one(self, batch: Sequence[Outgoing]) -> None:
        """Store all of a batch, or nothing. Raises `BusError`."""
        client, identity = self._connected(), uuid.uuid4().hex
        seen: set[str] = set()
        for number, one in enumerate(batch, 1):
            expected = None if one.subject in seen else self._tails[one.subject].sequence
            seen.add(one.subject)
            headers = {**one.headers(expected), "Nats-Batch-Id": identity, "Nats-Batch-Sequence": str(number)}
            if number < len(batch):
                await self._send(client, one, headers)
        headers["Nats-Batch-Commit"] = "1"
        reply = await self._request(client, batch[-1], headers)
        last = reply.get("seq")
        if reply.get("count") != len(batch) or not isinstance(last, int):
            raise BusError(f"{client.server} acknowledged a batch of {len(batch)} messages with {reply!r:.200}")
        for number, one in enumerate(batch, last - len(batch) + 1):
            self._tails[one.subject] = tail_of(number, one.identity)
        self.stored += len(batch)

    async def _store_singly(self, outgoing: Sequence[Outgoing]) -> None:
        """Store messages one by one, those of different subjects side by side. Raises `BusError`."""
        for group in side_by_side(outgoing):
            results = await asyncio.gather(*map(self._store_one, group), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _store_one(self, one: Outgoing) -> None:
        client = self._connected()
        tail = await self.tail(one.subject)
        if tail.has(one.identity):
            return
        reply = await self._request(client, one, one.headers(tail.sequence))
        number = reply.get("seq")
        if not isinstance(number, int):
            raise BusError(f"{client.server} acknowledged a message with {reply!r:.200}")
        if reply.get("duplicate") is True:  # its number may not be that of the last message on the subject
            self._tails.pop(one.subject, None)
            await check_duplicate(client, self._access, self._wish.name, number, one)
            self.skipped += 1
            return
        self._tails[one.subject] = tail_of(number, one.identity)
        self.stored += 1

    # The client

    def _connected(self) -> BusClient:
        if self._client is None or self._client.broken.is_set():
            raise BusError(f"the connection to the bus at {self._access} broke")
        return self._client

    async def _send(self, client: BusClient, one: Outgoing, headers: dict[str, str]) -> None:
        try:
            await client.publish(one.subject, one.payload, headers=headers)
        except Exception as error:
            raise BusError(await explained(error, client, self._access)) from error

    async def _request(self, client: BusClient, one: Outgoing, headers: dict[str, str]) -> dict[str, Any]:
        question = client.request(one.subject, one.payload, timeout=STORED_S, headers=headers)
        answer = await answered(client, self._access, question)
        return unpack_answer(client, self._wish.name, answer.data)

    async def _ask_tail(self, subject: str) -> Tail:
        """Ask the stream's leader what it holds last on a subject."""
        client, name = self._connected(), self._wish.name
        try:
            found = await ask_api(client, self._access, f"STREAM.MSG.GET.{name}", {"last_by_subj": subject})
        except JetStreamError as error:
            if error.code == MESSAGE_NOT_FOUND:
                return Tail()
            raise
        match found.get("message"):
            case {"seq": int() as sequence, **rest}:
                headers = base64.b64decode(str(rest.get("hdrs", "")))
            case _:
                raise BusError(f"{client.server} sent an answer without a message for {subject:.200}")
        for line in headers.decode("utf-8", "replace").split("\r\n"):
            if line.lower().startswith(f"{HEADER.lower()}:"):
                try:
                    tail = tail_of(sequence, parse_id(line.partition(":")[2].strip()))
                    return replace(tail, when_ns=_when_ns(subject, base64.b64decode(str(rest.get("data", "")))))
                except BusError:
                    break
        return Tail(sequence)  # somebody else's

    def _complain(self, error: BusError) -> None:
        """Log each fault once, until it is over. Two may take turns."""
        self.complaint = printable(error)
        if self.complaint not in self._said and len(self._said) < MAX_SAID:
            self._said.add(self.complaint)
            log.error("%s; trying again until it works", self.complaint)


def _when_ns(subject: str, payload: bytes) -> int:
    """Return when a message on a subject was heard, as a client's place has it."""
    at = parse_subject(subject)
    try:
        message = decode([f"{at.kind}/{at.stream}/".encode(), payload])
    except WireError:
        return Tail().when_ns
    assert isinstance(message, Embedding | Event)
    return place_after(message).when_ns
