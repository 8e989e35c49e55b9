"""Connect to the bus. Whatever keeps a client out becomes a `BusError`: one line that says what failed and what to do."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import TYPE_CHECKING

from mertd.bus.bus_access import BusAccess, BusServer
from mertd.bus.nats_extra import check_nats_extra
from mertd.errors import BusError
from mertd.text import printable

if TYPE_CHECKING:
    from mertd.bus.nats_client import BusClient


async def open_bus(access: BusAccess, name: str = "mertd") -> BusClient:
    """Return a connection to the first server that lets this client in. `name`: what the server calls it.

    Raises `BusError` with the reason of each server.
    """
    check_nats_extra()
    from mertd.bus.nats_client import BusClient

    faults: list[str] = []
    for server in access.servers:
        client = BusClient(access, server)
        try:
            await client.open(access, name)
        except BusError:
            raise
        except Exception as error:  # noqa: BLE001 - of nats-py, its parts and the system; each is said, none passes for success
            faults.append(explain(client.reason or error, server, access, client.expects_certificate))
            await close_bus(client)
        else:
            return client
    raise BusError("; ".join(dict.fromkeys(faults)))


async def close_bus(client: BusClient) -> None:
    """Close a connection, whatever its state."""
    try:
        async with asyncio.timeout(1.0):
            await client.close()
    except Exception:  # noqa: BLE001 - it is broken, and nothing is expected of it any more
        client.broken.set()


def explain(error: BaseException, server: BusServer, access: BusAccess, expects_certificate: bool = False) -> str:
    """Return what an error of a connection means, and what to do. `expects_certificate`: the server said so."""
    text = printable(str(error).removeprefix("nats: ").strip("'") or type(error).__name__, 300)
    lower = text.lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = printable(error.verify_message or text)
        remedy = "renew it" if "expired" in reason else "give the file of who signed it with --ca, and the name that it is for"
        return f"{server}: the server's certificate is not accepted: {reason}; {remedy}"
    if type(error).__name__ == "PlainServerError":
        return f"{server} does not encrypt; configure its TLS, or connect without tls:// and certificates"
    if "expired" in lower and "certificate" in lower:
        return f"{server} refuses the certificate {access.certificate}: it has expired; renew the file, it is read again"
    if expects_certificate and isinstance(error, OSError | EOFError):
        if access.certificate is None:
            return f"{server} expects a certificate of its clients; give --certificate and --private-key"
        return f"{server} refuses the certificate {access.certificate}: it has expired, or is not one it knows; renew the file"
    if isinstance(error, ssl.SSLError):
        return f"{server}: TLS failed: {printable(error.reason or text)}; do its certificates and --ca fit?"
    if type(error).__module__.startswith("nkeys"):
        return f"the seed in {access.credentials or access.nkey} is not valid: {text}; get another file"
    if "authorization violation" in lower and access.has_expired(time.time()):
        return (
            f"{server} refuses this client: the credentials {access.credentials} have expired; renew the file, it is read again"
        )
    if "authorization violation" in lower:
        return f"{server} refuses this client: {_shown_login(server, access)} is not accepted; see the server's users"
    if "authentication expired" in lower or "user authentication" in lower:
        return f"{server}: the credentials {access.credentials or ''} have expired; renew the file, it is read again"
    if "authentication revoked" in lower:
        return f"{server}: the credentials {access.credentials or ''} were revoked; get other ones"
    if "maximum connections" in lower or "maximum account" in lower:
        return f"{server} has no room for another client: {text}; raise max_connections"
    if isinstance(error, TimeoutError):
        return f"{server} does not answer as a NATS server does; is it one, and is the port right?"
    if isinstance(error, ConnectionRefusedError):
        return f"{server}: connection refused; is nats-server running there?"
    if isinstance(error, OSError):
        return f"{server}: {os.strerror(error.errno) if error.errno else text}; is the address right?"
    return f"{server}: {text}"


def _shown_login(server: BusServer, access: BusAccess) -> str:
    if access.credentials:
        return f"the user of {access.credentials}"
    if access.nkey:
        return f"the key of {access.nkey}"
    if server.password is not None:
        return f"user {printable(server.user)} with this password"
    return "the token" if server.user else "a client without credentials (give --credentials, --nkey, or USER:PASSWORD@)"
