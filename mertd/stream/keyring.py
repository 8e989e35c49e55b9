"""The keys in a key folder, and the list of the clients that a daemon lets in.

    server.key          name, public and secret key of the daemon
    client-NAME.key     the same of a client, and `server`, the public key of its daemon
    allowed.toml        a table for each client that may listen: `public`, and `control = true` if it may also control

All are TOML. The folder belongs to its owner alone (mode 0700), and so does each file (0600): a file that others could read or
change is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mertd.errors import KeysError
from mertd.stream.curve_keys import LOCAL, ClientKeys, ServerKeys, check_name, check_public, make_pair, read_pair
from mertd.stream.key_folder import KeyFolder

SECRET_HEAD = "# A secret of mertd: a program that has this file can pass for its owner. It belongs on this machine only.\n"
"""First line of a key file."""

LIST_HEAD = "# Who may connect to this mertd: written by `mertd keys allow` and `revoke`, read again by a running daemon.\n"
"""First line of the list of clients."""


@dataclass(frozen=True)
class AllowedClient:
    """A client that is let in: to listen and to read history; with `control`, for every request."""

    name: str
    public: str
    control: bool


class Keyring:
    """The keys and the list of clients in a key folder."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """`folder`: by default the user's own key folder, which is looked at when it is used. Raises `HomeUnknownError`."""
        self._files = KeyFolder(folder)

    @property
    def folder(self) -> Path:
        return self._files.path

    @property
    def list_path(self) -> Path:
        return self.folder / "allowed.toml"

    # Key pairs

    def new_server(self) -> tuple[ServerKeys, AllowedClient]:
        """Make the daemon's keys, and those of the client `local`, which may do everything.

        Raises `KeysError` if there are any.
        """
        pair, own = make_pair(), make_pair()
        with self._writing():
            clients = self.clients()
            if self._files.file_of("server").exists():
                raise KeysError(
                    f"{self._files.file_of('server')} exists already; with another key, no client would trust this daemon"
                )
            if self._files.file_of(LOCAL).exists() or LOCAL in clients:
                raise KeysError(
                    f"{LOCAL} has a key in {self.folder} already; delete {self._files.file_of(LOCAL)}, and revoke {LOCAL}"
                )
            local = AllowedClient(LOCAL, own.public, True)
            self._write_pair("server", {"public": pair.public, "secret": pair.secret})
            self._write_pair(LOCAL, {"public": own.public, "secret": own.secret, "server": pair.public})
            self._write_clients({**clients, LOCAL: local})
        return ServerKeys(pair.public, pair.secret), local

    def new_client(self, name: str, server: str | None = None) -> ClientKeys:
        """Make a client's keys. `server`: the public key of its daemon, by default of the one whose keys are here.

        Raises `KeysError` for an invalid name, or one that has keys.
        """
        check_name(name)
        pair = make_pair()
        with self._writing():
            if self._files.file_of(name).exists():
                raise KeysError(f"{self._files.file_of(name)} exists already; choose another name, or delete it")
            if server is None and self._files.file_of("server").exists():
                server = self.server().public
            content = {"public": pair.public, "secret": pair.secret}
            self._write_pair(name, {**content, "server": check_public(server)} if server else content)
        return ClientKeys(pair.public, pair.secret, server or "", name)

    def server(self) -> ServerKeys:
        """Return the daemon's keys. Raises `KeysError` if there are none, or others could have read them."""
        absent = f"no keys for a daemon in {self.folder}; `mertd keys new --server` makes them"
        pair, _ = read_pair(self._files, "server", absent)
        return ServerKeys(pair.public, pair.secret)

    def client(self, name: str = LOCAL, server: str | None = None) -> ClientKeys:
        """Return a client's keys, as `ClientKeys.load` does."""
        return ClientKeys.load(name, str(self.folder), server)

    def own(self) -> list[str]:
        """Return the names of the clients whose keys are here."""
        return self._files.client_names()

    # The list of clients

    def clients(self) -> dict[str, AllowedClient]:
        """Return the clients that are let in, by name; none without a list.

        Raises `KeysError` if the list is malformed, or others could have changed it.
        """
        try:
            tables = self._files.read(self.list_path)
        except FileNotFoundError:
            return {}
        clients: dict[str, AllowedClient] = {}
        name_of_key: dict[str, str] = {}
        for name, table in tables.items():
            client = self._client(name, table)
            if other := name_of_key.get(client.public):
                raise KeysError(f"{self.list_path}: {other} and {name} have the same key")
            name_of_key[client.public] = name
            clients[name] = client
        return clients

    def _client(self, name: str, table: object) -> AllowedClient:
        match table:
            case {"public": str() as public, **rest} if rest.keys() <= {"control"} and type(rest.get("control", False)) is bool:
                try:
                    return AllowedClient(check_name(name), check_public(public), rest.get("control") is True)
                except KeysError as error:
                    raise KeysError(f"{self.list_path}: [{name}]: {error}") from error
        raise KeysError(
            f'{self.list_path}: [{name}] must have public = "…", may have control = true or false, and nothing else'
        )

    def allow(self, name: str, public: str | None = None, control: bool = False) -> AllowedClient:
        """Let a client in, or change its rights. `public`: by default of the key of this name that is here.

        Raises `KeysError` if the name has another key, or the key another name.
        """
        check_name(name)
        with self._writing():
            if public is None:
                pair, _ = read_pair(self._files, name, f"no key {name!r} in {self.folder}; pass its public key")
                public = pair.public
            clients = self.clients()
            known = clients.get(name)
            if known and known.public != check_public(public):
                raise KeysError(
                    f"{name} is allowed with another key; run `mertd keys revoke {name}` first, or choose another name"
                )
            for other in clients.values():
                if other.public == check_public(public) and other.name != name:
                    raise KeysError(f"this key is allowed already, as {other.name}")
            clients[name] = AllowedClient(name, public, control)
            self._write_clients(clients)
        return clients[name]

    def revoke(self, name: str) -> AllowedClient:
        """Stop letting a client in. Raises `KeysError` if it was not let in."""
        with self._writing():
            clients = self.clients()
            if name not in clients:
                raise KeysError(f"{name} is not on the list; on it are {', '.join(clients) or 'no clients'}")
            gone = clients.pop(name)
            self._write_clients(clients)
        return gone

    # Files

    def _writing(self) -> AbstractContextManager[None]:
        return self._files.writing()

    def _write_pair(self, name: str, content: Mapping[str, str]) -> None:
        lines = "".join(f'{key} = "{value}"\n' for key, value in {"name": name, **content}.items())
        self._files.write(self._files.file_of(name), SECRET_HEAD + lines)

    def _write_clients(self, clients: Mapping[str, AllowedClient]) -> None:
        tables = (f'\n[{c.name}]\npublic = "{c.public}"\ncontrol = {str(c.control).lower()}\n' for c in clients.values())
        self._files.write(self.list_path, LIST_HEAD + "".join(tables))
