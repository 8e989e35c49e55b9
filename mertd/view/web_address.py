"""Where the page is served: an address and a port of this machine."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from mertd.errors import EndpointError, UsageError

BACKLOG = 128
"""Connections that may wait to be accepted."""


@dataclass(frozen=True)
class WebAddress:
    """An IP address, without brackets, and a port; 0 for any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """What to open in a browser on this machine."""
        address = ipaddress.ip_address(self.host)
        if address.is_unspecified:
            return f"http://{socket.gethostname()}:{self.port}/"
        return f"http://[{address}]:{self.port}/" if address.version == 6 else f"http://{address}:{self.port}/"


def parse_address(text: str) -> WebAddress:
    """Return what `HOST:PORT` says, as `127.0.0.1:5592`, `[::1]:5592` or `localhost:5592`. Raises `UsageError`."""
    found = re.fullmatch(r"(?:http://)?(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+):(\d{1,5})/?", text)
    if found is None or not int(found[2]) < 65_536:
        raise UsageError(f"{text!r} is not an address of a page; write HOST:PORT, as 127.0.0.1:5592 or 0.0.0.0:5592")
    host = "127.0.0.1" if found[1].lower() == "localhost" else found[1].strip("[]")
    try:
        return WebAddress(str(ipaddress.ip_address(host)), int(found[2]))
    except ValueError:
        raise UsageError(
            f"{text!r}: {host} is not an IP address; write 127.0.0.1 for this machine alone, or 0.0.0.0 for all networks"
        ) from None


def listen(address: WebAddress) -> tuple[socket.socket, WebAddress]:
    """Return a socket that listens, and where it does. Raises `EndpointError`."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise EndpointError(
            f"the page cannot be served at {address.host} port {address.port}: {error.strerror}; choose another one, as "
            f"{address.host}:{address.port + 8 if address.port < 65_000 else 5600}"
        ) from error
    return listening, WebAddress(address.host, listening.getsockname()[1])
