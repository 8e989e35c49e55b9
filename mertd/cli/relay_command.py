"""`mertd relay`: what a daemon publishes, to a bus."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

import typer

from mertd.cli.bus_options import OF_BUS
from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Key, KeyFolder, ServerKey
from mertd.cli.output import say
from mertd.cli.read_settings import relay_settings
from mertd.cli.stop_signals import StopSignals
from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import UsageError

commands = single_command()


@commands.command()
def relay(
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="The bus: nats://HOST:4222 or tls://HOST:4222, several with commas.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table [relay] has what is not given here.")] = None,
    connect: Annotated[
        str, typer.Option("--connect", metavar="ENDPOINT", help="Where the daemon publishes.")
    ] = PUBLISH_ENDPOINT,
    control: Annotated[
        str | None, typer.Option("--control", metavar="ENDPOINT", help=f"Where it answers requests ({CONTROL_ENDPOINT}).")
    ] = None,
    stream: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the JetStream stream (mertd).")] = None,
    create: Annotated[
        bool | None, typer.Option("--create", help="Make the stream if it is absent; one that exists is never altered.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(metavar="N", help="Of a stream that is made: 1, 3 or 5 (1).")] = None,
    max_age: Annotated[str | None, typer.Option(help="What a stream that is made keeps, as 2y, 30d or 12h (30d).")] = None,
    max_size: Annotated[str | None, typer.Option(help="Most that it keeps, as 50GB (no limit).")] = None,
    credentials: Annotated[str | None, typer.Option(metavar="FILE", help="A user's JWT and seed (.creds).")] = None,
    nkey: Annotated[str | None, typer.Option(metavar="FILE", help="The seed of a user's nkey.")] = None,
    ca: Annotated[str | None, typer.Option(metavar="FILE", help="Who signed the servers' certificates (the system's).")] = None,
    certificate: Annotated[str | None, typer.Option(metavar="FILE", help="The client's own certificate.")] = None,
    private_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its private key.")] = None,
    cursor: Annotated[
        str | None, typer.Option(metavar="FILE", help="The file that keeps the place (in the user's data).")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Where to begin without a place, as 2h or 21:00 (with what comes).")
    ] = None,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Relay what a daemon publishes to NATS JetStream. Ctrl-C or SIGTERM stops it."""
    own = {"to", "create", "replicas", "max_age", "max_size", "cursor", *OF_BUS}
    given = {name: value for name, value in locals().items() if name in own}
    settings = relay_settings(config, given)
    from mertd.bus.nats_extra import check_nats_extra
    from mertd.bus.relay import Relay, Relaying
    from mertd.user_folders import expand_home

    check_nats_extra()
    if control is None and connect != PUBLISH_ENDPOINT:
        raise UsageError("--connect needs --control, too: what was published while this did not run comes from there")
    keys = client_keys(connect, key, server_key, key_folder)
    place = None if settings.cursor is None else expand_home(settings.cursor)
    begin = None if since is None else _since_ns(since)
    told = Relaying(connect, control or CONTROL_ENDPOINT, place, settings.access(), settings.wish(), keys, begin)
    logging.getLogger("mertd").setLevel(logging.INFO)
    with StopSignals() as stopping:
        one = Relay(told, stopping)
        say(f"relaying {connect} to {told.access}, stream {told.wish.name}")
        one.run()
    say(f"stopped; {one.stored} messages were stored")


def _since_ns(text: str) -> int:
    from mertd.memory.time_words import parse_time

    return parse_time(text, time.time_ns())
