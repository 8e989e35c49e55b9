"""The commands `mertd keys …` and their options; the work is in `mertd.cli.keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from mertd.cli.options import Json, KeyFolder

keys = typer.Typer(help="Who may connect to a daemon that runs with --curve.", no_args_is_help=True, rich_markup_mode=None)


@keys.command("new")
def keys_new(
    name: Annotated[str | None, typer.Argument(help="What the client is called.")] = None,
    server: Annotated[bool, typer.Option("--server", help="The daemon's keys, and a client `local` for this machine.")] = False,
    server_key: Annotated[str | None, typer.Option(metavar="PUBLIC", help="The public key of the client's daemon.")] = None,
    folder: KeyFolder = None,
) -> None:
    """Make the keys of a client, or of the daemon. They stay on the machine; what is printed is public."""
    from mertd.cli.keys import new

    new(name, server, server_key, folder)


@keys.command("show")
def keys_show(folder: KeyFolder = None, json: Json = False) -> None:
    """Show the public keys that are here, and who is allowed."""
    from mertd.cli.keys import show

    show(folder, json)


@keys.command("allow")
def keys_allow(
    name: Annotated[str, typer.Argument(help="What the client is called.")],
    public: Annotated[str | None, typer.Argument(help="Its public key; not needed if its keys are here.")] = None,
    control: Annotated[bool, typer.Option("--control", help="It may command, too: pause, set, now, shutdown.")] = False,
    folder: KeyFolder = None,
) -> None:
    """Let a client in, to listen and to ask for status and history. Again with or without --control changes what it may."""
    from mertd.cli.keys import allow

    allow(name, public, control, folder)


@keys.command("revoke")
def keys_revoke(name: Annotated[str, typer.Argument(help="Who.")], folder: KeyFolder = None) -> None:
    """Let a client in no longer. A daemon that runs cuts it off."""
    from mertd.cli.keys import revoke

    revoke(name, folder)
