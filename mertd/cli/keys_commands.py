"""`mertd keys`: the keys of daemon and clients, and the list of clients that may connect. No secret is ever printed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.lazy_group import command_group
from mertd.cli.options import Json, KeyFolder
from mertd.cli.output import say, say_json
from mertd.errors import KeysError, UsageError

if TYPE_CHECKING:
    from mertd.stream.curve_keys import ClientKeys
    from mertd.stream.keyring import Keyring

commands = command_group("keys")


@commands.command()
def new(
    name: Annotated[str | None, typer.Argument(help="Name of the client.")] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Make the daemon's keys, and a client `local` for this machine.")
    ] = False,
    server_key: Annotated[str | None, typer.Option(metavar="PUBLIC", help="The public key of the client's daemon.")] = None,
    folder: KeyFolder = None,
) -> None:
    """Make the keys of a client, or of the daemon. They stay on the machine; what is printed is public."""
    from mertd.stream.keyring import Keyring

    keyring = Keyring(folder)
    if server == (name is not None):
        raise UsageError("`mertd keys new` needs a NAME for a client's keys, or --server for the daemon's")
    if server:
        if server_key:
            raise UsageError("--server-key belongs to a client's keys; the daemon makes its own")
        _new_server(keyring, folder)
    elif name is not None:
        _new_client(keyring, name, server_key, folder)


def _new_server(keyring: Keyring, folder: Path | None) -> None:
    made, local = keyring.new_server()
    say(f"{keyring.folder}: keys of the daemon, and of the client {local.name!r}, which may listen and command")
    say(f"server key (public): {made.public}")
    use = f"`mertd run --curve{_keys_option(folder)}` uses them"
    say(f"{use}; `mertd tail` and `mertd status` of this user on this machine find theirs")
    say(f"another client: `mertd keys new NAME --server-key {shlex.quote(made.public)}` on its machine")


def _new_client(keyring: Keyring, name: str, server_key: str | None, folder: Path | None) -> None:
    keys = keyring.new_client(name, server_key)
    say(f"{keyring.folder}: keys of the client {name!r}")
    say(f"public key: {keys.public}")
    say(f"on the daemon's machine: `mertd keys allow {name} {shlex.quote(keys.public)}`, with --control if it may command")
    tail = f"mertd tail --key {name}{_keys_option(folder)}"
    if keys.server:
        say(f"here: `{tail} --connect ENDPOINT --control ENDPOINT`")
    else:
        say(f"here: `{tail} --server-key PUBLIC …`, with what `mertd keys show` shows there")


@commands.command()
def show(folder: KeyFolder = None, json: Json = False) -> None:
    """Show the public keys of this machine, and the clients that are allowed."""
    from mertd.stream.keyring import Keyring

    keyring = Keyring(folder)
    server = keyring.server().public if (keyring.folder / "server.key").exists() else None
    clients = keyring.clients().values()
    own: dict[str, ClientKeys] = {}
    faults: dict[str, str] = {}
    for name in keyring.own():
        try:
            keys = keyring.client(name, server)
        except KeysError as error:
            faults[name] = str(error)
        else:
            if keys:
                own[name] = keys
    if json:
        say_json(
            {
                "folder": str(keyring.folder),
                "server": server,
                "own": {name: keys.public for name, keys in own.items()},
                "faults": faults,
                "allowed": {c.name: {"public": c.public, "control": c.control} for c in clients},
            }
        )
        return
    say(f"folder   {keyring.folder}")
    say(f"server   {server or 'none; `mertd keys new --server` makes one'}")
    for name, keys in own.items():
        say(f"own      {keys.public}  {name}")
    for name, fault in faults.items():
        say(f"own      {name}: {fault}")
    for client in clients:
        say(f"allowed  {client.public}  {client.name}: may {_rights(client.control)}")
    if not clients:
        say("allowed  nobody")


@commands.command()
def allow(
    name: Annotated[str, typer.Argument(help="Name of the client.")],
    public: Annotated[str | None, typer.Argument(help="Its public key; not needed if its keys are on this machine.")] = None,
    control: Annotated[bool, typer.Option("--control", help="It may also command: pause, set, now, shutdown.")] = False,
    folder: KeyFolder = None,
) -> None:
    """Let a client connect, to listen and to ask for status and history. Repeat with or without --control to change that."""
    from mertd.stream.keyring import Keyring

    client = Keyring(folder).allow(name, public, control)
    say(f"{name} may {_rights(client.control)}; a running daemon knows within a second")


@commands.command()
def revoke(name: Annotated[str, typer.Argument(help="Name of the client.")], folder: KeyFolder = None) -> None:
    """Stop letting a client connect. A running daemon cuts it off."""
    from mertd.stream.keyring import Keyring

    Keyring(folder).revoke(name)
    say(f"{name} is revoked; a running daemon cuts it off within a second")


def _rights(may_command: bool) -> str:
    return "listen and command" if may_command else "listen"


def _keys_option(folder: Path | None) -> str:
    return f" --keys {shlex.quote(str(folder))}" if folder else ""
