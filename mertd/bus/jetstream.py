"""Questions to JetStream: its stream, what it holds last on a subject, and what its errors mean."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from mertd.bus.bus_connection import explain
from mertd.errors import BusError
from mertd.text import printable

if TYPE_CHECKING:
    from mertd.bus.bus_access import BusAccess
    from mertd.bus.bus_batch import Outgoing
    from mertd.bus.nats_client import BusClient

Answer = TypeVar("Answer")

API = "$JS.API"
"""First tokens of the subjects of questions."""

ANSWER_S = 6.0
"""Seconds to wait for an answer. A cluster that elects a leader needs some."""

STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
WRONG_LAST_SEQUENCE = (10071, 10164)
DUPLICATE_IN_BATCH = 10201
NO_ATOMIC = (10174, 10177)
"""`err_code`s: batches are not allowed, or not with the headers that are needed."""

TOO_LARGE = 10054

REMEDIES = {
    10002: "the account's limit is reached; raise it, or delete what is not needed",
    10008: "the servers are electing a leader; it works when most of them are up",
    10023: "its storage is full; raise max_file_store, or give the stream limits",
    10025: "no server has room for it; see `nats server report jetstream`",
    10026: "the account has its most streams; raise the limit",
    10028: "its memory is full; raise max_memory_store",
    10039: "JetStream is not enabled for this account; enable it in the server's configuration",
    10047: "its storage is full; raise max_file_store, or delete what is not needed",
    10065: "another stream takes these subjects; name it with --stream, or change its subjects",
    10074: "this server is no cluster; leave --replicas out",
    10076: "JetStream is not enabled; start nats-server with -js",
    10077: "it is full, and set to refuse what is new; raise max_bytes, or set it to discard old messages",
    10109: "it is sealed; name another one with --stream",
}
"""What to do, by `err_code`."""


CLOSING_S = 1.0
"""Seconds until a connection that is being closed says why."""


class JetStreamError(BusError):
    """JetStream refuses a request. `code`: its `err_code`. `status`: the kind of refusal, as in HTTP; 0 if it says none."""

    def __init__(self, text: str, code: int, status: int) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class NoAnswerError(BusError):
    """JetStream does not answer, over a connection that is there."""


async def ask_api(client: BusClient, access: BusAccess, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what JetStream answers. Raises `BusError` if it does not, `JetStreamError` if it refuses."""
    content = b"" if body is None else json.dumps(body).encode()
    answer = await answered(client, access, client.request(f"{API}.{name}", content, timeout=ANSWER_S))
    return unpack_answer(client, name.rsplit(".", 1)[-1], answer.data)


def unpack_answer(client: BusClient, stream: str, content: bytes) -> dict[str, Any]:
    """Return the map of an answer. Raises `JetStreamError` if it is a refusal. `stream`: what the error calls it."""
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BusError(f"{client.server} sent an answer that is not JetStream's: {content[:100]!r}")
    match found.get("error"):
        case {"err_code": int() as code, "description": str() as text}:
            remedy = f"; {REMEDIES[code]}" if code in REMEDIES else ""
            why = f"{client.server} refuses: stream {printable(stream)}: {printable(text, 300)}{remedy}"
            raise JetStreamError(why, code, found["error"].get("code", 0))
        case None:
            return found
    raise BusError(f"{client.server} refuses: {printable(found['error'], 300)}")


async def check_duplicate(client: BusClient, access: BusAccess, stream: str, number: int, sent: Outgoing) -> None:
    """Raise `BusError` if what a message is a duplicate of is another client's: identities are compared across subjects.

    `number`: of what it is a duplicate of, as the server says.
    """
    try:
        found = await ask_api(client, access, f"STREAM.MSG.GET.{stream}", {"seq": number})
    except JetStreamError as error:
        if error.code == MESSAGE_NOT_FOUND:  # it is no longer kept
            return
        raise
    match found.get("message"):
        case {"subject": str() as subject} if subject != sent.subject:
            raise BusError(
                f"{client.server} takes {sent.identity} for stored, as it is on {printable(subject, 200)}: another client uses "
                "identities of this daemon; look who may publish there"
            )


async def answered(client: BusClient, access: BusAccess, question: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what a question gives; raise `BusError` as soon as the connection breaks, or if there is no answer."""
    asking = asyncio.ensure_future(question)
    broken = asyncio.ensure_future(client.broken.wait())
    try:
        await asyncio.wait((asking, broken), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done() and client.forbidden:
            raise BusError(f"{client.server} refuses: {printable(client.forbidden, 300)}; give this user the permission")
        if not asking.done():
            reason = explain(client.reason, client.server, access) if client.reason else f"{client.server} is gone"
            raise BusError(f"the connection to the bus broke: {reason}")
        return asking.result()
    except BusError:
        raise
    except TimeoutError as error:
        raise NoAnswerError(f"JetStream of {client.server} does not answer; are most servers of the cluster up?") from error
    except Exception as error:
        raise BusError(await explained(error, client, access)) from error
    finally:
        asking.cancel()
        broken.cancel()


async def explained(error: Exception, client: BusClient, access: BusAccess) -> str:
    """Return why something could not be sent or asked; of a connection that is closed, why it was closed."""
    if type(error).__name__ == "NoRespondersError":
        return f"{client.server} has no JetStream that takes it; start nats-server with -js, and enable it for this account"
    if not client.is_connected:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await client.broken.wait()
    return explain(client.reason or error, client.server, access)
