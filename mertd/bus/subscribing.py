"""`mertd.subscribe`: from daemons, over ZeroMQ, or from a bus, as the address says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mertd.defaults import PUBLISH_ENDPOINT
from mertd.errors import UsageError

if TYPE_CHECKING:
    from mertd.bus.bus_access import BusAccess
    from mertd.stream.client.message_source import MessageSource
    from mertd.stream.client.sequence import Cursor
    from mertd.stream.curve_keys import ClientKeys


@dataclass(frozen=True)
class BusKeys:
    """How to get into a bus; each is a path, or None.

    `credentials`: a `.creds` file with a JWT and a seed. `nkey`: a file with a seed. `ca`: certificates of who signs the
    server's; None for the system's. `certificate`, `private_key`: the client's own, PEM. A user and a password, or a token, go
    into the address.
    """

    credentials: str | None = None
    nkey: str | None = None
    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None

    def access(self, address: str) -> BusAccess:
        """Return these with the address of a bus. Raises `UsageError`."""
        from mertd.bus.bus_access import BusAccess, parse_servers

        return BusAccess(parse_servers(address), **vars(self))


def subscribe(
    endpoint: str | Iterable[str] = PUBLISH_ENDPOINT,
    streams: str | Iterable[str] = (),
    kinds: str | Iterable[str] = ("embedding",),
    *,
    control: str | Iterable[str] | None = None,
    last: int = 0,
    newest: bool = False,
    resume: Cursor | None = None,
    since: datetime | timedelta | int | None = None,
    cursor: str | os.PathLike[str] | None = None,
    mix_spaces: bool = False,
    timeout: float | None = None,
    by_hand: bool = False,
    keys: ClientKeys | Iterable[ClientKeys | None] | BusKeys | None = None,
    bus_stream: str | None = None,
) -> MessageSource:
    """Connect to one or more daemons, or to a bus, and return what messages come from.

    `endpoint`: where daemons publish, or `nats://HOST:4222`, several servers of one bus with commas. For a bus, `keys` are
    `BusKeys`, `bus_stream` is the name of the JetStream stream ("mertd"), and there is no `control`. The others mean the
    same for both: see `mertd.Subscriber`.
    """
    from mertd.bus.bus_access import is_bus

    endpoints = [endpoint] if isinstance(endpoint, str) else list(endpoint)
    if not any(map(is_bus, endpoints)):
        from mertd.stream.client.subscriber import Subscriber

        if isinstance(keys, BusKeys) or bus_stream is not None:
            raise UsageError("`BusKeys` and `bus_stream` are for a bus; pass its address, nats://HOST:4222")
        return Subscriber(
            endpoints,
            streams,
            kinds,
            control=control,
            last=last,
            newest=newest,
            resume=resume,
            since=since,
            cursor=cursor,
            mix_spaces=mix_spaces,
            timeout=timeout,
            by_hand=by_hand,
            keys=keys,
        )
    if len(endpoints) > 1:
        raise UsageError(
            "one bus at a time, and no daemons beside it; several servers of a bus go into one address, with commas"
        )
    if control is not None:
        raise UsageError("`control` is for daemons; a bus keeps the past itself")
    if keys is not None and not isinstance(keys, BusKeys):
        raise UsageError("a bus needs `mertd.BusKeys` for `keys`, or a user and a password in its address")
    from mertd.bus.bus_stream import STREAM
    from mertd.bus.bus_subscriber import BusSubscriber

    return BusSubscriber(
        (keys or BusKeys()).access(endpoints[0]),
        streams,
        kinds,
        last=last,
        newest=newest,
        resume=resume,
        since=since,
        cursor=cursor,
        mix_spaces=mix_spaces,
        timeout=timeout,
        by_hand=by_hand,
        bus_stream=bus_stream or STREAM,
    )
