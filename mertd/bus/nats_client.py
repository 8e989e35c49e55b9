"""nats-py's client, held to what mertd needs. The only file that imports it at its top, so it is imported when it is needed.

The client does not reconnect by itself: who uses a connection that broke opens another one, with the certificates and
credentials that lie on the disk by then.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.errors import Error

from mertd.bus.bus_access import BusAccess, BusServer

CONNECT_S = 5.0
"""Seconds for each step of connecting: TCP, TLS, the greeting, the login."""

PING_S = 15.0
"""Seconds between two questions whether the server is still there."""

PINGS = 2
"""Questions without an answer after which it counts as gone."""

PENDING_BYTES = 8 << 20
"""Bytes that wait to be sent before a call that sends more waits too."""


KEEPS_CONNECTION = ("permissions violation", "stale connection")
"""In errors of a server that do not say why it closes the connection."""


class PlainServerError(Error):
    """The server does not encrypt, and it must."""


class BusClient(Client):
    """A connection to one server, or the reason why there is none."""

    def __init__(self, access: BusAccess, server: BusServer) -> None:
        super().__init__()
        self.server = server
        self.reason: BaseException | None = None  # why the connection broke
        self.forbidden = ""  # what the server does not let this user do
        self.expects_certificate = False  # of its clients
        self.is_leaving = False  # it is about to stop, and said so
        self.broken = asyncio.Event()  # or useless, as it was refused something
        self._must_encrypt = access.must_encrypt

    async def open(self, access: BusAccess, name: str) -> None:
        """Connect. Raises what nats-py raises, `OSError` and `BusError`."""
        seed, credentials = access.seed_file(), access.credentials_file()
        user = {"user": self.server.user, "password": self.server.password or ""}
        token = {"token": self.server.user} if self.server.password is None else user
        await self.connect(
            str(self.server).replace("tls://", "nats://"),
            error_cb=self._note,
            disconnected_cb=self._ended,
            closed_cb=self._ended,
            name=name,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_S,  # type: ignore[arg-type]
            ping_interval=PING_S,  # type: ignore[arg-type]
            max_outstanding_pings=PINGS,
            pending_size=PENDING_BYTES,
            tls=access.tls_context(),
            nkeys_seed=str(seed) if seed else None,
            user_credentials=str(credentials) if credentials else None,
            **(token if self.server.user is not None else {}),  # type: ignore[arg-type]
        )
        if not self.is_connected:  # it closed the connection in place of an answer
            raise self.reason or self.last_error or ConnectionResetError("the server closed the connection")

    async def _note(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self.forbidden = str(error).removeprefix("nats: ")
            self.broken.set()  # what was asked stays without an answer
        else:
            self.reason = self.reason or error

    async def _process_err(self, err_msg: str) -> None:
        """Note what the server says of this client: it closes the connection then, and that is no reason."""
        await super()._process_err(err_msg)
        if not any(text in err_msg.lower() for text in KEEPS_CONNECTION):
            self.reason = self.reason or self.last_error

    async def _ended(self) -> None:
        self.reason = self.reason or self.last_error
        self.broken.set()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Look at the server's greeting before anything is told to it."""
        info.pop("connect_urls", None)  # only the servers that were given are used
        self.expects_certificate = info.get("tls_verify") is True
        if initial_connection and self._must_encrypt and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise PlainServerError
            info["tls_required"] = True
        self.is_leaving = self.is_leaving or info.get("ldm") is True
        await super()._process_info(info, initial_connection)
