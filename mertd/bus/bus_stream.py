"""The JetStream stream that takes what relays publish: looked at, made if it is absent, never altered."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mertd.bus.jetstream import STREAM_NOT_FOUND, JetStreamError, ask_api
from mertd.bus.subjects import ALL, pattern
from mertd.errors import BusError, UsageError
from mertd.text import printable

if TYPE_CHECKING:
    from mertd.bus.bus_access import BusAccess
    from mertd.bus.nats_client import BusClient

STREAM = "mertd"
"""Name of the stream, unless another one is given."""

MAX_AGE_S = 30 * 86_400.0
"""Seconds after which a stream that is made deletes a message, unless told otherwise."""

DUPLICATES_S = 120.0
"""Seconds for which it remembers identities. Batches that name the last sequence number make it unneeded for longer."""

ATOMIC_SINCE = (2, 12)
"""Version of nats-server from which on it stores batches as one."""

REPLICAS = (1, 3, 5)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamWish:
    """Which stream is used. `create`: make it if it is absent, with the limits behind it; None: no limit."""

    name: str = STREAM
    create: bool = False
    replicas: int = 1
    max_age_s: float | None = MAX_AGE_S
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.name or any(
            character in ".*>/\\" or character.isspace() or not character.isprintable() for character in self.name
        ):
            raise UsageError(f"stream: {self.name!r:.100} is not the name of a JetStream stream; use letters, digits, - and _")
        if self.replicas not in REPLICAS:
            raise UsageError(f"replicas: {self.replicas} is not possible; choose from {', '.join(map(str, REPLICAS))}")

    def configuration(self, version: tuple[int, ...]) -> dict[str, Any]:
        """Return what makes it. `version`: of the server."""
        found = {
            "name": self.name,
            "description": "what mertd's daemons publish",
            "subjects": [ALL],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "num_replicas": self.replicas,
            "max_age": 0 if self.max_age_s is None else round(self.max_age_s * 1e9),
            "max_bytes": -1 if self.max_bytes is None else self.max_bytes,
            "max_msgs": -1,
            "max_msg_size": -1,
            "max_consumers": -1,
            "duplicate_window": round(min(DUPLICATES_S, self.max_age_s or DUPLICATES_S) * 1e9),
            "allow_direct": True,
        }
        return {**found, "allow_atomic": True} if version >= ATOMIC_SINCE else found


@dataclass(frozen=True)
class BusStream:
    """What a stream takes. `max_message`: bytes of a message with its headers. `atomic`: it stores batches as one."""

    name: str
    max_message: int
    atomic: bool


async def look_at_stream(client: BusClient, access: BusAccess, wish: StreamWish, daemon: str) -> BusStream:
    """Return the stream, which is made if it is absent and that is wanted. `daemon`: whose messages it has to take.

    Raises `BusError` if it is absent, cannot be made, or is set up so that it cannot take them.
    """
    try:
        found = await ask_api(client, access, f"STREAM.INFO.{wish.name}")
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        if not wish.create:
            raise BusError(
                f"{client.server} has no stream {wish.name}; `mertd relay --create` makes it, or for `mertd run --relay` "
                "create = true under [relay]; or name another one with --stream"
            ) from error
        version = client.connected_server_version
        made = wish.configuration((version.major, version.minor))
        found = await ask_api(client, access, f"STREAM.CREATE.{wish.name}", made)
        log.info("made the stream %s at %s", wish.name, client.server)
    settings = found.get("config")
    if not isinstance(settings, dict):
        raise BusError(f"{client.server} sent no description of the stream {wish.name}")
    _check(settings, client, daemon)
    limit = settings.get("max_msg_size", -1)
    smaller = min(limit, client.max_payload) if isinstance(limit, int) and limit > 0 else client.max_payload
    return BusStream(wish.name, smaller, settings.get("allow_atomic") is True)


def _check(settings: dict[str, Any], client: BusClient, daemon: str) -> None:
    """Raise `BusError` for a stream that cannot take what the daemon publishes."""
    where = f"stream {settings.get('name')} of {client.server}"
    needed = pattern(daemon)
    subjects = settings.get("subjects") or []
    if settings.get("mirror") or not any(covers(str(one), needed) for one in subjects):
        shown = printable(", ".join(map(str, subjects)) or "no subjects of its own", 200)
        raise BusError(f"{where} takes {shown}, which leaves out {needed}; add {ALL} to its subjects, or name another stream")
    if settings.get("sealed"):
        raise BusError(f"{where} is sealed and takes nothing; name another one with --stream")
    if settings.get("no_ack"):
        raise BusError(f"{where} does not acknowledge messages (no_ack), so nothing says what it has; set no_ack to false")


def covers(one: str, other: str) -> bool:
    """Return whether all subjects of the pattern `other` are subjects of the pattern `one`."""
    wide, narrow = one.split("."), other.split(".")
    for number, token in enumerate(wide):
        if token == ">":
            return len(narrow) > number
        if number >= len(narrow) or narrow[number] == ">" or (token != "*" and token != narrow[number]):
            return False
    return len(wide) == len(narrow)
