"""CURVE keys, as sockets use them: which pairs there are, and what a socket is told of them.

Keys are text in Z85, as ZeroMQ has it everywhere: 40 characters for 32 bytes. https://rfc.zeromq.org/spec/26/ is CurveZMQ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import zmq
from zmq.utils import z85

from mertd.errors import KeysError

LOCAL = "local"
"""The client that is made together with the server's keys: this user on this machine."""

Domain = Literal["publish", "control"]
"""Of the daemon's two sockets, as the ZAP handler hears of them."""


@dataclass(frozen=True)
class Pair:
    """A public key, and the secret that belongs to it, which is in no repr."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ServerKeys(Pair):
    """What a daemon proves itself with."""

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """Let in, once it is bound, only whom the ZAP handler for `domain` accepts; nobody while there is no handler."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        # Without this libzmq would encrypt and let everyone in if the handler were gone.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


@dataclass(frozen=True)
class ClientKeys(Pair):
    """What a client proves itself with, and the public key of the only server that it will talk to."""

    server: str = ""
    name: str = ""

    def secure(self, socket: zmq.Socket[Any]) -> None:
        """Talk, once it is connected, to this server and to none that cannot prove to be it."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, check_public(self.server).encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())

    @classmethod
    def load(cls, name: str = LOCAL, folder: str | None = None, server: str | None = None) -> ClientKeys:
        """The keys of this name from a key folder, by default the user's. Raises `KeysError`. `server`: a public key."""
        from mertd.stream.keyring import Keyring

        return Keyring(folder).client(name, server)


def make_pair() -> Pair:
    """A new one. Public keys begin with a letter or digit: `mertd keys allow NAME -x…` would be taken for an option."""
    while True:
        public, secret = zmq.curve_keypair()
        if chr(public[0]).isalnum():
            return Pair(public.decode(), secret.decode())


def check_pair(public: str, secret: str) -> Pair:
    """Both, if they belong together. Raises `KeysError`, which quotes no secret."""
    check_public(public)
    try:
        binary = z85.decode(secret.encode())
        fits = len(binary) == 32 and zmq.curve_public(secret.encode()).decode() == public
    except Exception as error:  # z85 raises KeyError, IndexError or struct.error
        raise KeysError("the secret key is not 40 characters of Z85") from error
    if not fits:
        raise KeysError("the secret key does not belong to the public one")
    return Pair(public, secret)


def check_public(public: str) -> str:
    """A public key that is one. Raises `KeysError`."""
    try:
        if len(z85.decode(public.encode())) == 32 and len(public) == 40:
            return public
    except Exception as error:
        raise KeysError(f"{public!r} is not a public key: wanted 40 characters of Z85") from error
    raise KeysError(f"{public!r} is not a public key: wanted 40 characters of Z85")
