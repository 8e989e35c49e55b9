"""Who gets in: the ZAP handler (https://rfc.zeromq.org/spec/27/), and what becomes of those who do not.

libzmq asks here about each client that has proven to have the secret key of its public one. Clients that fail before, because
they have no key or take the daemon for another one, are only heard of through a monitor of the socket. Each rejection is
counted by its reason, and logged once for each key.

libzmq asks once per connection. So when a key is revoked, its connections are severed (see `mertd.stream.connections`), and
those of which the key is not known yet: whoever is allowed comes back and is asked about again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, OrderedDict
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils import z85

from mertd.descriptors import SpareDescriptor
from mertd.errors import KeysError, WireError
from mertd.stream.connections import Connections
from mertd.stream.keyring import Client, Keyring
from mertd.stream.keys import Domain
from mertd.stream.monitor import MISMATCH, is_cryptographic

log = logging.getLogger(__name__)

ADDRESS = "inproc://zeromq.zap.01"
LOOK_S = 0.25
"""Seconds between two looks at the list of clients."""

REMEMBERED = 1_024
"""Keys whose rejection was already logged."""

FORGET_S = 3_600.0
"""Seconds after which the rejection of a key is logged again."""

READING = {"status", "history"}
"""Requests allowed to clients with the `listen` right."""

HINTS = {
    "unknown_key": "its key is not on the list; `mertd keys allow NAME %s` lets it in",
    "no_key": "it has no key, or does not speak CURVE",
    "wrong_server_key": "it takes this daemon for another one: its server key is wrong, or it does not speak CURVE",
    "unfinished": "it broke off before it had proven who it is; clients without a key do so",
    "malformed": "it does not keep to the protocol",
}


class Rejections:
    """Counts and log lines. Its memory is bounded, however many keys knock."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._logged: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()  # handshakes that fail are reported by another thread than keys that are unknown

    def add(self, reason: str, domain: str, key: str = "", address: str = "") -> None:
        """One more. `key`: public, if it is known."""
        with self._lock:
            self.counts[reason] += 1
            now, who = time.monotonic(), (reason, domain, key)
            if now - self._logged.get(who, -FORGET_S) < FORGET_S:
                return
            self._logged[who] = now
            self._logged.move_to_end(who)
            if len(self._logged) > REMEMBERED:
                self._logged.popitem(last=False)
        hint = HINTS[reason] % repr(key) if "%s" in HINTS[reason] else HINTS[reason]
        log.warning("a client%s was rejected on the %s socket: %s", f" at {address}" if address else "", domain, hint)


class Guard:
    """The ZAP handler of a context, in an event loop: sockets are secured and then bound; `serve` answers."""

    def __init__(self, context: zmq.asyncio.Context, keyring: Keyring) -> None:
        """Raises `KeysError` if there are no keys, or they are not safe."""
        self._keyring, self._keys = keyring, keyring.server()
        self._stamp = self._seen = self._look()
        self._clients = {client.public: client for client in keyring.clients().values()}
        self.rejections, self.problem = Rejections(), ""
        self._spare = SpareDescriptor()
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(ADDRESS)

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """To be called before a socket is bound."""
        self._keys.secure(socket, domain)

    @property
    def folder(self) -> str:
        return str(self._keyring.folder)

    @property
    def facts(self) -> dict[str, Any]:
        """For the status."""
        return {
            "curve": True,
            "public_key": self._keys.public,
            "clients_allowed": len(self._clients),
            "rejected": dict(self.rejections.counts),
            "keys_problem": self.problem,
        }

    # Judging

    async def serve(self) -> None:
        """Answer libzmq until cancelled."""
        while True:
            request: list[bytes] = await self._zap.recv_multipart()
            await self._zap.send_multipart(self.judge(request))

    def judge(self, request: list[bytes]) -> list[bytes]:
        """The answer to a ZAP request; the public key becomes the `User-Id` of all that the client sends."""
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
        """Raises `WireError` if the client with this key may not, or no longer, make such a request."""
        client = self._clients.get(public)
        if client is None:
            raise WireError("this key is allowed no longer")
        if not client.control and request not in READING:
            raise WireError(
                f"{client.name} may listen, but not command; on the daemon's machine, "
                f"`mertd keys allow {client.name} PUBLIC --control` lets it"
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

    def reload(self) -> list[Client]:
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
        """Something that changes when the list does, or who may read it."""
        found: list[int] = []
        for path in (self._keyring.list_path, self._keyring.folder):
            with contextlib.suppress(OSError):
                facts = path.stat()
                found += [facts.st_ino, facts.st_mode, facts.st_uid]
                found += [facts.st_mtime_ns, facts.st_size] if path == self._keyring.list_path else []
        return tuple(found)

    def close(self) -> None:
        """Stop answering, once the sockets are closed."""
        self._zap.close()
        self._spare.close()
