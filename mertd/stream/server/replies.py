"""Sending replies over ROUTER: with room for them, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from mertd.errors import WireError
from mertd.stream.envelope import Identifier, pack_reply
from mertd.stream.server.connection import Connection
from mertd.stream.server.connections import Connections
from mertd.stream.server.history import Page
from mertd.stream.server.readiness import Readiness


@dataclass(frozen=True)
class Asker:
    """Who asked. `address`: frames that stand before the reply. `client`: whose allowance it uses, a key or a connection's
    identity. `user`: its public key, or empty.
    """

    address: list[bytes]
    client: str | bytes
    user: str
    connection: Connection | None
    identifier: Identifier = None


class Replies:
    """Replies of one ROUTER socket. `refused`: requests that got an error for a reply."""

    def __init__(
        self, socket: zmq.Socket[Any], connections: Connections | None, on_gone: Callable[[bytes], object] = lambda _: None
    ) -> None:
        """`on_gone` is told the identity of a client that a reply did not find."""
        self._socket = socket
        self._connections = connections
        self._on_gone = on_gone
        self.readiness = Readiness(socket)
        self.refused = 0

    def send_page(self, asker: Asker, page: Page) -> int:
        """Send messages, and return their bytes. Raises `WireError` if the client leaves too many replies unread."""
        reply = pack_reply({"ok": True, "messages": page.messages, "more": page.more}, asker.identifier)
        if not self._send(asker, reply):
            raise WireError("the replies to your earlier requests are unread; read them first")
        return len(reply)

    def refuse(self, asker: Asker, error: Exception) -> None:
        """Reply with an error; a client that does not even read why is cut off."""
        self.refused += 1
        if not self._send(asker, pack_reply({"ok": False, "error": str(error)}, asker.identifier)):
            self.cut_off(asker.connection, "it does not read its replies")

    def cut_off(self, connection: Connection | None, reason: str) -> None:
        """Cut a client off, if it is known by which connection it came."""
        if connection is not None and self._connections is not None:
            self._connections.sever(connection, reason)

    def _send(self, asker: Asker, reply: bytes) -> bool:
        if asker.connection is not None and self._connections is not None:
            if not self._connections.make_room(asker.connection, len(reply)):
                return False
            self._connections.note_sent(asker.connection, len(reply))
        try:
            self._socket.send_multipart([*asker.address, reply], zmq.NOBLOCK)
        except zmq.ZMQError as error:  # its queue is full, or the client is gone
            if error.errno == zmq.EHOSTUNREACH:
                self._on_gone(asker.address[0])
        self.readiness.touched()
        return True
