"""The relay as a process that a daemon starts: `main` runs in it. The daemon knows nothing of it but its arguments."""

from __future__ import annotations

import logging
import threading
from multiprocessing.connection import Connection
from typing import Any

from mertd.bus.bus_access import BusAccess
from mertd.bus.bus_stream import StreamWish
from mertd.bus.relay import Relay, Relaying
from mertd.errors import MertdError
from mertd.processes.child import Heartbeat, Outbox, begin
from mertd.stream.curve_keys import LOCAL, ClientKeys
from mertd.stream.families import reachable
from mertd.text import printable
from mertd.user_folders import expand_home

log = logging.getLogger(__name__)


def main(
    publish: str,
    control: str,
    keys: str,
    access: BusAccess,
    wish: StreamWish,
    cursor: str | None,
    since_ns: int,
    pipe: Connection,
) -> None:
    """Relay a daemon until it says that this shall end.

    `publish`, `control`: as its sockets are bound. `keys`: folder of the keys, empty without encryption. `cursor`: file that
    keeps the place, None for the default. `since_ns`: when the daemon was started; the first relay begins there.
    """
    stopping = threading.Event()

    def on_message(_: Any) -> None:
        stopping.set()

    begin(pipe, on_message)
    relaying = Relaying(
        reachable(publish),
        reachable(control),
        None if cursor is None else expand_home(cursor),
        access,
        wish,
        ClientKeys.load(LOCAL, keys) if keys else None,
        since_ns,
    )
    try:
        Relay(relaying, stopping, Heartbeat(Outbox(pipe))).run()
    except MertdError as error:  # the daemon logs what was said last, and tries again
        log.error("%s", printable(error))
        raise SystemExit(error.exit_code) from None
