"""CURVE keys: pairs, how they are read from a key folder, and how a socket is given them.

Keys are text in Z85, as everywhere in ZeroMQ: 40 characters for 32 bytes. https://rfc.zeromq.org/spec/26/ describes CurveZMQ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import zmq
from zmq.utils import z85

from mertd.errors import KeysError
from mertd.stream.key_folder import KeyFolder

LOCAL = "local"
"""The client whose keys are made together with the server's: this user on this machine."""

CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Names that a client may have, `server` excepted."""

ZAP_ADDRESS = "inproc://zeromq.zap.01"
"""Where libzmq looks for what decides about new connections, by ZeroMQ RFC 27."""

Domain = Literal["publish", "control"]
"""One of the daemon's two sockets, as the ZAP handler knows them."""


@dataclass(frozen=True)
class KeyPair:
    """A public key, and the secret key that belongs to it, which is in no repr."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ServerKeys(KeyPair):
    """The keys by which a daemon proves its identity."""

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """Let a socket, once it is bound, accept only clients that the ZAP handler for `domain` accepts; none without one."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        # Without this libzmq would encrypt and let everyone in if the handler were gone.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


@dataclass(frozen=True)
class ClientKeys(KeyPair):
    """The keys by which a client proves its identity, and the public key of the only server that it talks to."""

    server: str = ""
    name: str = ""

    def secure(self, socket: zmq.Socket[Any]) -> None:
        """Let a socket, once it is connected, talk to this server only."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, check_public(self.server).encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())

    @classmethod
    def load(cls, name: str = LOCAL, folder: str | None = None, server: str | None = None) -> ClientKeys:
        """Return the keys of this name from a key folder, by default the user's own.

        `server`: the public key of the daemon, if it is not the one in the file. Raises `KeysError` if there is no such key, or
        others could have read it.
        """
        check_name(name)
        keys = KeyFolder(folder)
        path = keys.file_of(name)
        make = "mertd keys new --server" if name == LOCAL else f"mertd keys new {name}"
        pair, content = read_pair(
            keys, name, f"no key {name!r} in {keys.path}; `{make}` makes one, `mertd keys show` lists them"
        )
        public = server or content.get("server")
        if public is None:
            raise KeysError(f"{path} does not say to which daemon it belongs; pass that daemon's public key with --server-key")
        return cls(pair.public, pair.secret, check_public(public), name)


def make_pair() -> KeyPair:
    """Return a new pair. Its public key begins with a letter or digit: in `mertd keys allow NAME -x…` it would be an option."""
    while True:
        public, secret = zmq.curve_keypair()
        if chr(public[0]).isalnum():
            return KeyPair(public.decode(), secret.decode())


def read_pair(folder: KeyFolder, name: str, absent: str) -> tuple[KeyPair, dict[str, Any]]:
    """Return a pair from a key folder, and all that its file says.

    Raises `KeysError`: with the text `absent` if there is no such file.
    """
    path = folder.file_of(name)
    try:
        content = folder.read(path)
    except FileNotFoundError:
        raise KeysError(absent) from None
    public, secret = content.get("public"), content.get("secret")
    if not (isinstance(public, str) and isinstance(secret, str) and isinstance(content.get("server", ""), str)):
        raise KeysError(f"{path} is not a key file of mertd: it must have `public` and `secret`, as text")
    try:
        return check_pair(public, secret), content
    except KeysError as error:
        raise KeysError(f"{path}: {error}") from error


def check_pair(public: str, secret: str) -> KeyPair:
    """Return both keys as a pair, if they belong together. Raises `KeysError`, which quotes no secret."""
    check_public(public)
    try:
        binary = z85.decode(secret.encode())
        fits = len(binary) == 32 and zmq.curve_public(secret.encode()).decode() == public
    except Exception as error:  # z85 raises KeyError, IndexError or struct.error
        raise KeysError("the secret key is not 40 characters of Z85") from error
    if not fits:
        raise KeysError("the secret key does not belong to the public one")
    return KeyPair(public, secret)


def check_public(public: str) -> str:
    """Return a public key, if it is one. Raises `KeysError`."""
    try:
        if len(z85.decode(public.encode())) == 32 and len(public) == 40:
            return public
    except Exception as error:
        raise KeysError(f"{public!r} is not a public key; it must have 40 characters of Z85") from error
    raise KeysError(f"{public!r} is not a public key; it must have 40 characters of Z85")


def check_name(name: str) -> str:
    """Return a name, if a client may have it. Raises `KeysError`."""
    if not CLIENT_NAME.fullmatch(name) or name == "server":
        raise KeysError(
            f"{name!r} cannot be the name of a client; use up to 63 letters, digits, - and _, and another one than `server`"
        )
    return name
