"""Who gets in: the ZAP handler (https://rfc.zeromq.org/spec/27/), and what becomes of those who do not.

libzmq asks here about each client that has proven to have the secret key of its public one. Clients that fail before, because
they have no key or take the daemon for another one, are only heard of through a monitor of the socket. Each rejection is
counted by its reason, and logged once for each key.

libzmq asks once per connection and cannot drop a single one later. So when a key is revoked, `reload` tells, and the sockets
are bound anew: all clients are disconnected, come back by themselves, and are asked about again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils import z85

from mertd.errors import KeysError, WireError
from mertd.stream.endpoint import Bound
from mertd.stream.keyring import Client, Keyring
from mertd.stream.keys import Domain
from mertd.stream.monitor import FAILED, MISMATCH, Monitor, is_cryptographic

log = logging.getLogger(__name__)

ADDRESS = "inproc://zeromq.zap.01"
LOOK_S, UNBOUND_S = 0.25, 2.0
"""How often the list is looked at; after so long without an endpoint the log says so."""

REMEMBERED, FORGET_S = 1_024, 3_600.0
"""Keys of which is known that their rejection has been logged, and after how long it is worth a line again."""

READING = {"status", "history"}
"""Requests of which clients may make use who may only listen."""

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

    def add(self, reason: str, domain: str, key: str = "", address: str = "") -> None:
        """One more. `key`: public, if it is known."""
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
        self._context, self._monitors = context, list[tuple[Domain, Monitor]]()
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(ADDRESS)

    def secure(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """To be called before a socket is bound."""
        self._keys.secure(socket, domain)
        self._monitors.append((domain, Monitor(self._context, socket, FAILED)))

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
        """Answer libzmq, and hear what the monitors tell, until cancelled."""
        listeners = [asyncio.create_task(self._listen(domain, monitor)) for domain, monitor in self._monitors]
        try:
            while True:
                request: list[bytes] = await self._zap.recv_multipart()
                await self._zap.send_multipart(self.judge(request))
        finally:
            for task in listeners:
                task.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)

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

    async def _listen(self, domain: Domain, monitor: Monitor) -> None:
        while True:
            event, value = monitor.parse(await monitor.socket.recv_multipart())
            if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self.rejections.add("unfinished", domain)
            elif value == MISMATCH:
                self.rejections.add("no_key", domain)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self.rejections.add("wrong_server_key" if is_cryptographic(value) else "malformed", domain)

    # The list

    def reload(self) -> list[Client]:
        """Read the list again if it has changed, and has not changed since the last call. Gives those who are no longer on it,
        and may still be connected.

        A list that cannot be read changes nothing: that is logged, and told in the status.
        """
        stamp = self._look()
        settled, self._seen = stamp == self._seen, stamp
        if stamp == self._stamp or not settled:  # an editor may be in the middle of writing it
            return []
        self._stamp = stamp
        try:
            clients = {client.public: client for client in self._keyring.clients().values()}
        except KeysError as error:
            self.problem = str(error)
            log.error("the list of clients is not read, and stays as it was: %s", error)
            return []
        self.problem, before, self._clients = "", self._clients, clients
        for public in clients.keys() - before.keys():
            log.info("%s is allowed from now on", clients[public].name)
        gone = [client for public, client in before.items() if public not in clients]
        for client in gone:
            log.info("%s is revoked; all clients have to prove again who they are", client.name)
        return gone

    async def watch_list(self, *sockets: Bound) -> None:
        """Read the list whenever it changes, and when somebody is revoked disconnect everyone, until cancelled."""
        while True:
            if self.reload():
                await asyncio.gather(*map(_cut_off, sockets))
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
        """When the sockets are closed."""
        for _, monitor in self._monitors:
            monitor.close()
        self._zap.close()


async def _cut_off(bound: Bound) -> None:
    """Disconnect all clients; whoever is allowed comes back within a moment."""
    bound.unbind()
    began, warned = time.monotonic(), False
    while not bound.bind_again():
        if not warned and time.monotonic() - began > UNBOUND_S:
            warned = True
            log.error("%s cannot be bound again; it is tried until it can", bound.endpoint)
        await asyncio.sleep(0.01)
