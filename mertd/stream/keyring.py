"""The key folder: one file per key pair, and the list of the clients that a daemon lets in.

    server.key          name, public and secret key of the daemon
    client-NAME.key     the same of a client, and `server`, the public key of its daemon
    allowed.toml        a table per client that may listen: `public`, and `control = true` if it may also command

All are TOML. The folder is for its owner alone (0700), and so is each file (0600): what others could read or change is refused.
Files are written beside their place and moved there, under a lock, so that a reader sees the old or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from mertd.errors import KeysError
from mertd.files import FileError, read_limited, replacing
from mertd.stream.keys import LOCAL, ClientKeys, Pair, ServerKeys, check_pair, check_public, make_pair

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SECRET_HEAD = "# A secret of mertd: whoever has this file can pass for its owner. It belongs on this machine only.\n"
LIST_HEAD = "# Who may connect to this mertd: written by `mertd keys allow` and `revoke`, read again by a running daemon.\n"


@dataclass(frozen=True)
class Client:
    """One that is let in: to listen and to ask for what was sent, and with `control` for everything."""

    name: str
    public: str
    control: bool


class Keyring:
    """A key folder. Reading it changes nothing; what writes makes the folder."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder or Path(platformdirs.user_config_dir("mertd")) / "keys").expanduser().absolute()

    # Key pairs

    def new_server(self) -> tuple[ServerKeys, Client]:
        """Make the daemon's keys, and those of the client `local`, which may do everything.

        Raises `KeysError` if there are any.
        """
        pair, own = make_pair(), make_pair()
        with self._writing():
            clients = self.clients()
            if self._path("server").exists():
                raise KeysError(f"{self._path('server')} is there already; with another one, no client would trust this daemon")
            self._check_new(LOCAL, clients)
            local = Client(LOCAL, own.public, True)
            self._write_pair("server", {"public": pair.public, "secret": pair.secret})
            self._write_pair(LOCAL, {"public": own.public, "secret": own.secret, "server": pair.public})
            self._write_clients({**clients, LOCAL: local})
        return ServerKeys(pair.public, pair.secret), local

    def new_client(self, name: str, server: str | None = None) -> ClientKeys:
        """Make a client's keys. `server`: the public key of its daemon, by default of one whose keys are here.

        Raises `KeysError` for a bad name, or one that is taken.
        """
        check_name(name)
        pair = make_pair()
        with self._writing():
            if self._path(name).exists():
                raise KeysError(f"{self._path(name)} is there already; choose another name, or delete it")
            if server is None and self._path("server").exists():
                server = self.server().public
            facts = {"public": pair.public, "secret": pair.secret}
            self._write_pair(name, {**facts, "server": check_public(server)} if server else facts)
        return ClientKeys(pair.public, pair.secret, server or "", name)

    def server(self) -> ServerKeys:
        """The daemon's keys. Raises `KeysError` if there are none, or they are not safe."""
        path = self._path("server")
        pair, _ = self._read_pair(path, f"no keys for a daemon in {self.folder}; `mertd keys new --server` makes them")
        return ServerKeys(pair.public, pair.secret)

    def client(self, name: str = LOCAL, server: str | None = None) -> ClientKeys:
        """A client's keys. `server`: the public key of its daemon, if not that in the file. Raises `KeysError`."""
        check_name(name)
        path = self._path(name)
        make = "mertd keys new --server" if name == LOCAL else f"mertd keys new {name}"
        pair, facts = self._read_pair(
            path, f"no key {name!r} in {self.folder}; `{make}` makes one, `mertd keys show` lists them"
        )
        wanted = server or facts.get("server")
        if wanted is None:
            raise KeysError(f"{path} does not say to which daemon it belongs; name its public key with --server-key")
        return ClientKeys(pair.public, pair.secret, check_public(wanted), name)

    def own(self) -> list[str]:
        """Names of the clients whose keys are here."""
        found = sorted(path.name for path in self.folder.glob("client-*.key")) if self.folder.is_dir() else []
        return [name.removeprefix("client-").removesuffix(".key") for name in found]

    # The list

    @property
    def list_path(self) -> Path:
        return self.folder / "allowed.toml"

    def clients(self) -> dict[str, Client]:
        """Who is let in, by name; without a list nobody. Raises `KeysError` for what is malformed, or not safe."""
        try:
            tables = self._read(self.list_path)
        except FileNotFoundError:
            return {}
        clients: dict[str, Client] = {}
        names: dict[str, str] = {}
        for name, table in tables.items():
            match table:
                case {"public": str() as public, **rest} if (
                    rest.keys() <= {"control"} and type(rest.get("control", False)) is bool
                ):
                    control = rest.get("control") is True
                case _:
                    raise KeysError(f'{self.list_path}: [{name}] wants public = "…", and control = true or false, and no more')
            try:
                check_name(name)
                check_public(public)
            except KeysError as error:
                raise KeysError(f"{self.list_path}: [{name}]: {error}") from error
            if other := names.get(public):
                raise KeysError(f"{self.list_path}: {other} and {name} have the same key")
            names[public] = name
            clients[name] = Client(name, public, control)
        return clients

    def allow(self, name: str, public: str | None = None, control: bool = False) -> Client:
        """Let a client in, or change what it may. `public`: by default of the key of this name that is here.

        Raises `KeysError` if the name has another key, or the key another name.
        """
        check_name(name)
        with self._writing():
            if public is None:
                pair, _ = self._read_pair(self._path(name), f"no key {name!r} in {self.folder}; say its public key")
                public = pair.public
            clients = self.clients()
            known = clients.get(name)
            if known and known.public != check_public(public):
                raise KeysError(f"{name} is allowed with another key; `mertd keys revoke {name}` first, or choose another name")
            for other in clients.values():
                if other.public == check_public(public) and other.name != name:
                    raise KeysError(f"this key is allowed already, as {other.name}")
            clients[name] = Client(name, public, control)
            self._write_clients(clients)
        return clients[name]

    def revoke(self, name: str) -> Client:
        """Let a client in no longer. Raises `KeysError` if it was not."""
        with self._writing():
            clients = self.clients()
            if name not in clients:
                raise KeysError(f"{name} is not allowed as it is; allowed are {', '.join(clients) or 'none'}")
            gone = clients.pop(name)
            self._write_clients(clients)
        return gone

    # Files

    def _path(self, name: str) -> Path:
        return self.folder / ("server.key" if name == "server" else f"client-{name}.key")

    def _check_new(self, name: str, clients: Mapping[str, Client]) -> None:
        if self._path(name).exists() or name in clients:
            raise KeysError(f"{name} has a key in {self.folder} already; delete {self._path(name)}, and revoke it")

    def _read_pair(self, path: Path, absent: str) -> tuple[Pair, dict[str, Any]]:
        try:
            facts = self._read(path)
        except FileNotFoundError:
            raise KeysError(absent) from None
        public, secret = facts.get("public"), facts.get("secret")
        if not (isinstance(public, str) and isinstance(secret, str) and isinstance(facts.get("server", ""), str)):
            raise KeysError(f"{path} is not a key file of mertd: wanted public and secret, as text")
        try:
            return check_pair(public, secret), facts
        except KeysError as error:
            raise KeysError(f"{path}: {error}") from error

    def _read(self, path: Path) -> dict[str, Any]:
        """A TOML file that nobody else could have read or written. Raises `FileNotFoundError`, or `KeysError`."""
        try:
            _check_owned(self.folder, self.folder.stat(), "700")
            return tomllib.loads(read_limited(path, check=lambda found: _check_owned(path, found, "600")).decode())
        except FileNotFoundError:
            raise
        except FileError as error:
            raise KeysError(str(error)) from error
        except RecursionError as error:
            raise KeysError(f"{path} cannot be read: its tables or arrays are nested too deeply") from error
        except OSError as error:
            raise KeysError(f"{path}: {error.strerror}") from error
        except ValueError as error:  # TOMLDecodeError says where, and quotes nothing
            raise KeysError(f"{path} is not TOML: {error}") from error

    def _write_pair(self, name: str, facts: Mapping[str, str]) -> None:
        self._write(
            self._path(name), SECRET_HEAD + "".join(f'{key} = "{value}"\n' for key, value in {"name": name, **facts}.items())
        )

    def _write_clients(self, clients: Mapping[str, Client]) -> None:
        tables = (f'\n[{c.name}]\npublic = "{c.public}"\ncontrol = {str(c.control).lower()}\n' for c in clients.values())
        self._write(self.list_path, LIST_HEAD + "".join(tables))

    def _write(self, path: Path, text: str) -> None:
        with replacing(path, mode=0o600) as file:
            file.write(text.encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the folder if need be, and keep other writers out. Raises `KeysError` if that cannot be."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owned(self.folder, self.folder.stat(), "700")
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with contextlib.closing(os.fdopen(descriptor, "r+")):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise KeysError(f"{self.folder} cannot be written: {error.strerror}") from error


def check_name(name: str) -> str:
    """A name that may be a client's. Raises `KeysError`."""
    if not NAME.fullmatch(name) or name == "server":
        raise KeysError(f"{name!r} is no name for a client: wanted letters, digits, - and _, at most 63, and not `server`")
    return name


def _check_owned(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_uid != os.getuid():
        raise KeysError(f"{path} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeysError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}): chmod {mode} it, and if it is a key that "
            "others may have read, make a new one"
        )
