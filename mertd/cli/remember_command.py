"""`mertd remember`: keep what daemons publish, on this machine or another one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.bus_options import (
    BusCa,
    BusCertificate,
    BusConfig,
    BusCredentials,
    BusNkey,
    BusPrivateKey,
    BusStream,
    bus_access,
    of_bus,
    refuse_of_bus,
)
from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Connects, Controls, Key, KeyFolder, MemoryFolder, ServerKey, daemons_of
from mertd.cli.output import say
from mertd.cli.stop_signals import StopSignals
from mertd.errors import UsageError

if TYPE_CHECKING:
    from mertd.memory.following import Followed

commands = single_command()


@commands.command()
def remember(
    connect: Connects = None,
    control: Controls = None,
    memory: MemoryFolder = None,
    keep: Annotated[str | None, typer.Option(help="How much to keep, as 2y, 30d or 50GB (everything).")] = None,
    bus: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="A bus with the messages of many daemons: nats://HOST:4222.")
    ] = None,
    config: BusConfig = None,
    bus_stream: BusStream = None,
    credentials: BusCredentials = None,
    nkey: BusNkey = None,
    ca: BusCa = None,
    certificate: BusCertificate = None,
    private_key: BusPrivateKey = None,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Keep what daemons publish, for `mertd memory`. Ctrl-C or SIGTERM stops it."""
    options = of_bus(locals())
    from mertd.memory.amounts import parse_keep
    from mertd.memory.default_folder import chosen_folder

    if bus is not None:
        if connect or control:
            raise UsageError("--from names a bus, --connect and --control name daemons; give one or the other")
        from mertd.memory.bus_following import BusFollowing

        access, name = bus_access("--from", bus, config, options)
        _remember(BusFollowing(chosen_folder(memory), access, name, parse_keep(keep)))
        return
    refuse_of_bus(config, options, "give --from nats://HOST:4222")
    from mertd.memory.following import Following

    endpoints, controls = daemons_of(connect, control)
    if len(controls) != len(endpoints):
        raise UsageError(
            f"{len(endpoints)} daemons but {len(controls)} control endpoints; give --control for each --connect: what was "
            "published while this did not run comes from there"
        )
    _remember(
        Following(
            folder=chosen_folder(memory),
            endpoints=tuple(endpoints),
            controls=tuple(controls),
            keys=tuple(client_keys(endpoint, key, server_key, key_folder) for endpoint in endpoints),
            keep=parse_keep(keep),
        )
    )


def _remember(following: Followed) -> None:
    from mertd.memory.follower import Follower

    logging.getLogger("mertd").setLevel(logging.INFO)
    with StopSignals() as stopping:
        follower = Follower(following, stopping)
        say(f"remembering {', '.join(following.endpoints)} in {following.folder}")
        follower.run()
    say(f"stopped; {follower.stored} messages were stored")
