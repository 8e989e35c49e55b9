"""`mertd run`: the daemon, until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mertd.bus.nats_extra import check_nats_extra
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Backend, Check, Config, Gate, Hop, Layers, Precision, Sources, Threads, Weights, Window
from mertd.cli.read_settings import daemon_settings
from mertd.cli.standard_streams import STANDARD_ERROR
from mertd.cli.weights_offer import offer_weights
from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT, VIEW_ADDRESS
from mertd.embed.threads import choose, limit_blas
from mertd.view.view_extra import check_extra

commands = single_command()


@commands.command()
def run(
    source: Sources = None,
    config: Config = None,
    bind: Annotated[str | None, typer.Option(metavar="ENDPOINT", help=f"Where to publish ({PUBLISH_ENDPOINT}).")] = None,
    control: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help=f"Where to answer requests ({CONTROL_ENDPOINT}).")
    ] = None,
    curve: Annotated[
        bool | None, typer.Option("--curve", help="Encrypt, and let in only clients that `mertd keys` allows.")
    ] = None,
    keys: Annotated[
        str | None, typer.Option(metavar="DIR", help="Directory of the keys (in the user's configuration).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of this daemon in its messages (a fingerprint of host and --bind).")
    ] = None,
    window: Window = None,
    hop: Hop = None,
    layers: Layers = None,
    backend: Backend = None,
    precision: Precision = None,
    check: Check = None,
    weights: Weights = None,
    threads: Threads = None,
    pace: Annotated[str | None, typer.Option(help="realtime, or fast: as fast as the model can (realtime).")] = None,
    late: Annotated[str | None, typer.Option(help="latest or queue (realtime: latest, fast: queue).")] = None,
    gate: Gate = None,
    ring: Annotated[
        float | None, typer.Option(help="Seconds of audio kept in memory (enough for the window and the hop).")
    ] = None,
    remember: Annotated[bool | None, typer.Option("--remember", help="Keep what is published, in a memory.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="DIR", help="Directory of the memory (in the user's data).")] = None,
    keep: Annotated[str | None, typer.Option(help="How much the memory keeps, as 2y, 30d or 50GB (everything).")] = None,
    view: Annotated[bool | None, typer.Option("--view", help="Serve the page of `mertd view`, in its own process.")] = None,
    view_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=f"Where to serve the page ({VIEW_ADDRESS}).")
    ] = None,
    relay: Annotated[
        str | None, typer.Option("--relay", metavar="URL", help="Relay what is published to a bus, as nats://HOST:4222.")
    ] = None,
    exit_at_end: Annotated[bool | None, typer.Option("--exit-at-end", help="Exit when all sources have ended.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (info).")] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: one map a line (text).")] = None,
) -> None:
    """Run the daemon: listen, embed, publish. Ctrl-C or SIGTERM stops it."""
    flags = {name: value for name, value in locals().items() if name != "config"}
    Path.cwd()  # raises if the directory was deleted: Python cannot spawn processes there
    settings = daemon_settings(config, flags)
    if settings.view:
        check_extra()
    if settings.relay is not None:
        check_nats_extra()
    offer_weights(settings)
    # The embed process starts faster if numpy, which only checks the backend there, leaves a core to the backend.
    limit_blas(choose(settings.threads).count if settings.backend == "numpy" else 1)
    import asyncio

    from mertd.daemon.assembly import Outside, make_supervisor
    from mertd.logs import QueuedHandler, install, uninstall

    handler = QueuedHandler(STANDARD_ERROR, settings.log_format)
    install(handler, settings.log_level)
    try:
        asyncio.run(make_supervisor(settings, Outside(handler, lambda: daemon_settings(config, flags))).run())
    finally:
        uninstall(handler)
