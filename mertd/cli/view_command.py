"""`mertd view`: one page in a browser that shows what is heard."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Connects, Controls, Key, KeyFolder, MemoryFolder, ServerKey, daemons_of
from mertd.cli.output import say, say_aside
from mertd.defaults import VIEW_ADDRESS
from mertd.errors import UsageError

commands = single_command()


@commands.command()
def view(
    connect: Connects = None,
    control: Controls = None,
    bind: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve the page.")] = VIEW_ADDRESS,
    name: Annotated[
        list[str] | None, typer.Option(help="A name by which browsers call this server, as behind a proxy; repeatable.")
    ] = None,
    memory: MemoryFolder = None,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Serve a page that shows what is heard, live and remembered. Ctrl-C or SIGTERM stops it."""
    from mertd.view.view_extra import check_extra

    check_extra()
    import asyncio

    from mertd.view.http_server import ViewOptions, serve, stop_on_signals
    from mertd.view.listener import Daemons
    from mertd.view.web_address import parse_address

    endpoints, controls = daemons_of(connect, control)
    if controls and len(controls) != len(endpoints):
        raise UsageError(f"{len(endpoints)} daemons but {len(controls)} control endpoints; give --control for each --connect")
    keys = tuple(client_keys(endpoint, key, server_key, key_folder) for endpoint in endpoints)
    daemons = Daemons(tuple(endpoints), tuple(controls), keys)
    address = parse_address(bind)
    options = ViewOptions(address, daemons, tuple(name or ()), str(memory) if memory else None)
    logging.getLogger("mertd").setLevel(logging.INFO)

    async def run() -> None:
        stopping = asyncio.Event()
        stop_on_signals(stopping)
        await serve(options, lambda url: say(f"the page is at {url}"), stopping)

    if not address.is_loopback:
        say_aside(
            "other machines can reach the page; without TLS anyone on the way can read it and the token: put a reverse "
            "proxy with TLS before it"
        )
    asyncio.run(run())
    say("stopped")
