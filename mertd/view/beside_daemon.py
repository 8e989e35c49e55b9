"""The page as a process that a daemon starts: `main` runs in it. The daemon knows nothing of it but its arguments."""

from __future__ import annotations

import asyncio
import logging
from multiprocessing.connection import Connection
from typing import Any

from mertd.errors import MertdError
from mertd.processes.child import READY, REPORT_S, Outbox, begin
from mertd.stream.curve_keys import LOCAL, ClientKeys
from mertd.stream.families import reachable
from mertd.text import printable
from mertd.view.http_server import ViewOptions, serve
from mertd.view.listener import Daemons
from mertd.view.web_address import parse_address

log = logging.getLogger(__name__)


def main(publish: str, control: str, keys: str, memory: str | None, bind: str, token: str, pipe: Connection) -> None:
    """Serve the page until the daemon says that this shall end.

    `publish`, `control`: as its sockets are bound. `keys`: folder of the keys, empty without encryption. `memory`: directory,
    None for the default. `bind`: where to serve. `token`: what browsers of other machines need.
    """
    try:
        asyncio.run(_serve(publish, control, keys, memory, bind, token, pipe))
    except MertdError as error:  # the daemon logs what was said last, and tries again
        log.error("%s", printable(error))
        raise SystemExit(error.exit_code) from None


async def _serve(publish: str, control: str, keys: str, memory: str | None, bind: str, token: str, pipe: Connection) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_message(_: Any) -> None:
        loop.call_soon_threadsafe(stopping.set)

    begin(pipe, on_message)
    own = (ClientKeys.load(LOCAL, keys),) if keys else None
    daemons = Daemons((reachable(publish),), (reachable(control),), own)
    options = ViewOptions(parse_address(bind), daemons, (), memory, token)
    outbox = Outbox(pipe)
    reporting = asyncio.create_task(_report(outbox))
    try:
        await serve(options, lambda url: outbox.send(("page", url)), stopping)
    finally:
        reporting.cancel()


async def _report(outbox: Outbox) -> None:
    while True:
        outbox.send(READY)
        await asyncio.sleep(REPORT_S)
