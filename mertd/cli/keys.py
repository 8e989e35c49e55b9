"""`mertd keys …`, and the keys that other commands use. No secret is ever printed."""

from __future__ import annotations

import shlex
from pathlib import Path

from mertd.cli.output import say, say_json
from mertd.errors import KeysError, UsageError
from mertd.stream.curve_keys import LOCAL, ClientKeys
from mertd.stream.keyring import Keyring


def new(name: str | None, server: bool, server_key: str | None, folder: Path | None) -> None:
    """Make the daemon's keys, or a client's, and say what to do next."""
    ring, option = Keyring(folder), _option(folder)
    if server == (name is not None):
        raise UsageError("say whose keys: a NAME for a client's, or --server for the daemon's")
    if server:
        if server_key:
            raise UsageError("--server-key is for a client's keys: the daemon makes its own")
        made, local = ring.new_server()
        say(f"{ring.folder}: keys of the daemon, and of the client {local.name!r}, which may listen and command")
        say(f"server key (public): {made.public}")
        say(f"`mertd run --curve{option}` uses them; `mertd tail` and `mertd status` of this user on this machine find theirs")
        say(f"another client: `mertd keys new NAME --server-key {shlex.quote(made.public)}` on its machine")
        return
    assert name is not None
    keys = ring.new_client(name, server_key)
    say(f"{ring.folder}: keys of the client {name!r}")
    say(f"public key: {keys.public}")
    say(f"on the daemon's machine: `mertd keys allow {name} {shlex.quote(keys.public)}`, with --control if it may command")
    if keys.server:
        say(f"here: `mertd tail --key {name}{option} --connect ENDPOINT --control ENDPOINT`")
    else:
        say(f"here: `mertd tail --key {name}{option} --server-key PUBLIC …`, with what `mertd keys show` shows there")


def show(folder: Path | None, json: bool) -> None:
    """Print the public keys that are here, and who is allowed."""
    ring = Keyring(folder)
    server = ring.server().public if (ring.folder / "server.key").exists() else None
    own, clients, faults = dict[str, ClientKeys | None](), ring.clients(), dict[str, str]()
    for name in ring.own():
        try:
            own[name] = ring.client(name, server)
        except KeysError as error:
            faults[name] = str(error)
    if json:
        facts = {
            "folder": str(ring.folder),
            "server": server,
            "own": {name: keys.public for name, keys in own.items() if keys},
            "faults": faults,
            "allowed": {c.name: {"public": c.public, "control": c.control} for c in clients.values()},
        }
        say_json(facts)
        return
    say(f"folder   {ring.folder}")
    say(f"server   {server or 'none; `mertd keys new --server` makes one'}")
    for name, keys in own.items():
        if keys:
            say(f"own      {keys.public}  {name}")
    for name, fault in faults.items():
        say(f"own      {name}: {fault}")
    for client in clients.values():
        say(f"allowed  {client.public}  {client.name}: {'may listen and command' if client.control else 'may listen'}")
    if not clients:
        say("allowed  nobody")


def allow(name: str, public: str | None, control: bool, folder: Path | None) -> None:
    """Put a client on the list."""
    client = Keyring(folder).allow(name, public, control)
    say(f"{name} may {'listen and command' if client.control else 'listen'}; a running daemon knows within a second")


def revoke(name: str, folder: Path | None) -> None:
    """Take a client off the list."""
    Keyring(folder).revoke(name)
    say(f"{name} is revoked; a running daemon cuts it off within a second")


def chosen(endpoint: str, key: str | None, server_key: str | None, folder: Path | None) -> ClientKeys | None:
    """The keys for a daemon: those that were named, or else, if this user runs it with --curve, its client `local`.

    Raises `KeysError` if they are not there.
    """
    if key or server_key or folder:
        return Keyring(folder).client(key or LOCAL, server_key)
    from mertd.daemon.instance import local_keys

    return local_keys(endpoint)


def _option(folder: Path | None) -> str:
    return f" --keys {shlex.quote(str(folder))}" if folder else ""
