"""Which clients are let in: the ZAP handler (https://rfc.zeromq.org/spec/27/) and the list that it goes by.

libzmq asks here about each client that has proven that it has the secret key of its public one. Clients that fail before,
because they have no key or expect another daemon, are only reported through a monitor of the socket. Each rejection is counted
by its reason, and logged once for each key.

libzmq asks once per connection. So when a key is revoked, its connections are severed (see `mertd.stream.server.connections`),
and those whose key is not known yet: clients that are allowed reconnect by themselves, and are asked about again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils import z85

from mertd.descriptors import SpareDescriptor
from mertd.errors import KeysError, WireError
from mertd.stream.curve_keys import ZAP_ADDRESS, Domain
from mertd.stream.keyring import AllowedClient, Keyring
from mertd.stream.monitor import MISMATCH, is_cryptographic
from mertd.stream.server.connections import Connections
from mertd.stream.server.rejections import Rejections

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""Seconds between two looks at the list of clients."""

READING = frozenset({"status", "history"})
"""Requests allowed to clients with the `listen` right."""


class Authenticator:
    """The ZAP handler of a context, in an event loop. `secure` sockets before they are bound; `serve` answers libzmq."""

    def __init__(self, context: zmq.asyncio.Context, keyring: Keyring) -> None:
        """Raises `KeysError` if there are no keys, or others could have read them."""
        self._keyring = keyring
        self._keys = keyring.server()
        self._stamp = self._seen = self._look()
        self._clients = {client.public: client for client in keyring.clients().values()}
        self._spare = SpareDescriptor()
        self.rejections = Rejections()
        self.problem = ""
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(ZAP_ADDRESS)

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """Give a socket the daemon's keys. Call before it is bound."""
        self._keys.secure(socket, domain)

    @property
    def folder(self) -> str:
        return str(self._keyring.folder)

    @property
    def facts(self) -> dict[str, Any]:
        """What the status says of keys."""
        return {
            "curve": True,
            "public_key": self._keys.public,
            "clients_allowed": len(self._clients),
            "rejected": dict(self.rejections.counts),
            "keys_problem": self.problem,
        }

    def close(self) -> None:
        """Stop answering, once the sockets are closed."""
        self._zap.close()
        self._spare.close()

    # Decisions

    async def serve(self) -> None:
        """Answer libzmq until cancelled."""
        while True:
            request: list[bytes] = await self._zap.recv_multipart()
            await self._zap.send_multipart(self.decide(request))

    def decide(self, request: list[bytes]) -> list[bytes]:
        """Return the answer to a ZAP request. The public key becomes the `User-Id` of all that the client sends."""
        match request:
            case [b"1.0", _, domain, address, _, b"CURVE", key] if len(key) == 32:
                public = z85.encode(key).decode()
                if public in self._clients:
                    return [b"1.0", request[1], b"200", b"OK", public.encode(), b""]
                self.rejections.add("unknown_key", domain.decode(errors="replace"), public, address.decode(errors="replace"))
            case _:
                self.rejections.add("malformed", "")
        return [b"1.0", request[1] if len(request) > 1 else b"", b"400", b"not allowed", b"", b""]

    def check(self, public: str, request: object) -> None:
        """Raise `WireError` unless the client with this key may make such a request, and still may."""
        client = self._clients.get(public)
        if client is None:
            raise WireError("this key is no longer allowed")
        if not client.control and request not in READING:
            raise WireError(
                f"{client.name} may listen, but not control; run `mertd keys allow {client.name} PUBLIC --control` on the "
                "daemon's machine to allow it"
            )

    def handshake_failed(self, domain: Domain, event: int, value: int) -> None:
        """Count a handshake that libzmq has ended by itself. May be called in any thread."""
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self.rejections.add("unfinished", domain)
        elif value == MISMATCH:
            self.rejections.add("no_key", domain)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.rejections.add("wrong_server_key" if is_cryptographic(value) else "malformed", domain)

    # The list

    def reload(self) -> list[AllowedClient]:
        """Read the list again if it has changed, and has not changed since the last call. Returns the clients that are no
        longer on it, and may still be connected.

        While the list cannot be read, the one before applies: that is logged once, shown in the status, and tried again at each
        call.
        """
        stamp = self._look()
        settled, self._seen = stamp == self._seen, stamp
        if stamp == self._stamp or not settled:  # an editor may be in the middle of writing it
            return []
        try:
            clients = self._spare.use_for(self._keyring.clients)
        except (KeysError, OSError) as error:
            if str(error) != self.problem:
                log.error("the list of clients cannot be read, so the one before still applies; trying again: %s", error)
            self.problem = str(error)
            return []
        self._stamp, self.problem = stamp, ""
        before, self._clients = self._clients, {client.public: client for client in clients.values()}
        for public in self._clients.keys() - before.keys():
            log.info("%s is allowed from now on", self._clients[public].name)
        gone = [client for public, client in before.items() if public not in self._clients]
        for client in gone:
            log.info("%s is revoked; its connections are cut off", client.name)
        return gone

    async def watch_list(self, connections: Connections) -> None:
        """Read the list whenever it changes, and cut off every client that is not on it, until cancelled."""
        while True:
            revoked = self.reload()
            connections.keep_only(self._clients.keys(), bool(revoked))
            await asyncio.sleep(LOOK_S)

    def _look(self) -> tuple[int, ...]:
        """Return something that changes when the list does, or who may read it."""
        found: list[int] = []
        for path in (self._keyring.list_path, self._keyring.folder):
            with contextlib.suppress(OSError):
                file = path.stat()
                found += [file.st_ino, file.st_mode, file.st_uid]
                found += [file.st_mtime_ns, file.st_size] if path == self._keyring.list_path else []
        return tuple(found)


def user_of(frame: zmq.Frame) -> str:
    """Return the public key of the client that sent a frame, as the ZAP handler gave it; empty if it gave none."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
