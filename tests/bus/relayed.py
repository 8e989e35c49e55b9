"""A relay in a thread of the test, and what is on the bus then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats

from bus.made_daemon import MadeDaemon
from command_process import PATIENCE_S, wait_until
from mertd.bus.bus_access import BusAccess, parse_servers
from mertd.bus.bus_stream import StreamWish
from mertd.bus.message_id import HEADER, BusId, parse_id
from mertd.bus.relay import Relay, Relaying
from working_thread import working


def relaying(made: MadeDaemon, url: str, stream: str, folder: Path, **changes: Any) -> Relaying:
    """What a relay is told, with a stream that it makes."""
    facts: dict[str, Any] = {
        "endpoint": made.endpoint,
        "control": made.control,
        "cursor": folder / "cursor",
        "access": BusAccess(parse_servers(url)),
        "wish": StreamWish(stream, create=True),
        "since_ns": 0,
    }
    return Relaying(**{**facts, **changes})


@contextmanager
def relay(told: Relaying) -> Iterator[Relay]:
    """Relay in a thread, until the block ends."""
    stopping = threading.Event()
    one = Relay(told, stopping)
    with working(one.run, stopping):
        yield one


def on_bus(url: str, stream: str) -> list[tuple[str, BusId, bytes]]:
    """Everything that a stream holds, in its order: subject, identity and payload."""

    async def read() -> list[tuple[str, BusId, bytes]]:
        client = await nats.connect(url, allow_reconnect=False)
        try:
            jetstream = client.jetstream()
            state = (await jetstream.stream_info(stream)).state
            found = []
            for number in range(state.first_seq, state.last_seq + 1):
                message = await jetstream.get_msg(stream, number)
                assert message.headers
                found.append((message.subject or "", parse_id(message.headers[HEADER]), message.data or b""))
            return found
        finally:
            await client.close()

    return asyncio.run(read())


def until(made: MadeDaemon, condition: Any, why: str = "it never came") -> None:
    """Publish the status, as a daemon does all the time, until the condition is true."""

    def satisfied() -> bool:
        made.tell_status()
        return bool(condition())

    wait_until(satisfied, PATIENCE_S, lambda: why)
