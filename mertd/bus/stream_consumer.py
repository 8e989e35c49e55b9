"""A consumer on the server that hands over the messages of a JetStream stream in order, as long as it lasts.

It lives in the server's memory, without acknowledgements, and is asked for messages (pull). Nothing is tried twice here:
whatever is strange ends it, and `StreamReader` makes another one behind the last message that came.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mertd.bus.jetstream import API, JetStreamError, unpack_answer
from mertd.errors import BusError

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from mertd.bus.nats_client import BusClient

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

UNUSED_S = 60.0
"""Seconds after which the server deletes a consumer that nobody asks."""

NOT_FOUND = 404
"""Status of JetStream's refusal if a stream does not exist."""

NO_LEADER = (500, 503)
"""Statuses of a refusal that passes: the servers are electing a leader."""


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


Beginning = Callable[[dict[str, Any]], dict[str, Any]]
Give = Callable[[Stored], Awaitable[None]]


class InterruptedReadingError(Exception):
    """The consumer is of no use any more; the reason is the text."""


class StreamConsumer:
    """A consumer on the server, as long as it lasts."""

    def __init__(self, client: BusClient, stream: str) -> None:
        self._client, self._stream = client, stream
        self._name = f"mertd_{secrets.token_hex(8)}"
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._created = ""
        self._number = 0  # of the consumer's last message, by its own count
        self._left = 0  # messages that it has still to give, as the server has said last
        self._is_large = False  # the next message has more than `BATCH_BYTES`

    async def info(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what the server says of the stream. Raises as `read` does."""
        return await self._ask(f"STREAM.INFO.{self._stream}", body)

    async def read(self, beginning: Beginning, give: Give, only_past: bool = False) -> None:
        """Make it, and hand over what comes, until nothing has come for `EXPIRES_S`. `only_past`: until nothing is left now.

        A consumer that has nothing to give may be one that a server has forgotten to serve, so it is then made anew.

        `beginning`: is given what the server says of the stream, and returns where to begin and what to read. `give`: takes a
        message, and may wait until there is room for it. Raises `InterruptedReadingError`, `BusError`, and what nats-py raises.
        """
        watch = asyncio.ensure_future(self._watch())
        try:
            info = await self.info({})
            self._created = str(info["created"])
            inbox = self._client.new_inbox()
            listening = await self._client.subscribe(inbox, cb=self._arrived.put)
            config = {
                **beginning(info),
                "name": self._name,
                "ack_policy": "none",
                "max_deliver": 1,
                "replay_policy": "instant",
                "inactive_threshold": _ns(UNUSED_S),
                "num_replicas": 1,
                "mem_storage": True,
            }
            body = {"stream_name": self._stream, "config": config, "action": "create"}
            self._left = int((await self._ask(f"CONSUMER.CREATE.{self._stream}.{self._name}", body))["num_pending"])
            while not (only_past and not self._left) and await self._batch(inbox, give, only_past):
                pass
            await listening.unsubscribe()
        finally:
            watch.cancel()
            with suppress(Exception):
                await self._client.publish(f"{API}.CONSUMER.DELETE.{self._stream}.{self._name}", b"")

    async def _watch(self) -> None:
        await self._client.broken.wait()
        self._arrived.put_nowait(None)

    async def _batch(self, inbox: str, give: Give, only_past: bool) -> bool:
        """Ask for messages once, and hand over the answers. Returns False if there was none."""
        wanted, limits = (1, {}) if self._is_large else (BATCH, {"max_bytes": BATCH_BYTES})
        request = {"batch": wanted, **limits, "expires": _ns(EXPIRES_S), "idle_heartbeat": _ns(HEARTBEAT_S)}
        where = f"{API}.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._client.publish(where, json.dumps(request).encode(), reply=inbox)
        self._is_large = False
        came = 0
        while came < wanted:
            async with asyncio.timeout(SILENCE_S):
                message = await self._arrived.get()
            if message is None:
                raise InterruptedReadingError(f"the connection broke: {self._client.reason}")
            if message.reply.startswith("$JS.ACK."):
                await give(self._stored(message))
                came += 1
                if only_past and not self._left:
                    return True
                continue
            headers = message.headers or {}
            status, text = headers.get("Status", ""), headers.get("Description", "")
            if status == "100":
                continue
            if status == "409" and "maxbytes" in text.lower().replace(" ", ""):
                self._is_large = not came
                return True
            if status not in ("404", "408"):
                raise InterruptedReadingError(f"{status} {text}")
            return came > 0
        return True

    def _stored(self, message: Msg) -> Stored:
        """Return a message that came. Raises `InterruptedReadingError` if one before it did not."""
        tokens = message.reply.split(".")
        # $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQ.NUMBER.TIME.PENDING, or with domain and account before the stream.
        at = 5 if len(tokens) == 9 else 7
        seq, number = int(tokens[at]), int(tokens[at + 1])
        if number != self._number + 1:
            raise InterruptedReadingError(f"message {number} of the consumer came after {self._number}")
        self._number, self._left = number, int(tokens[at + 3])
        return Stored(message.subject, message.data, StreamPlace(self._created, seq + 1))

    async def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return JetStream's answer. Raises `BusError` if it is a refusal, `InterruptedReadingError` for one that will pass."""
        reply = await self._client.request(f"{API}.{what}", json.dumps(body).encode(), timeout=REQUEST_S)
        try:
            return unpack_answer(self._client, self._stream, reply.data)
        except JetStreamError as error:
            if error.status == NOT_FOUND:
                why = f"{self._client.server} has no stream {self._stream} yet; `mertd relay --create` makes it"
                raise BusError(why) from error
            if error.status in NO_LEADER:
                raise InterruptedReadingError(str(error)) from error
            raise


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
