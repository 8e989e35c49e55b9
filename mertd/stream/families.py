"""IPv4 or IPv6: which of them a socket must use for an endpoint.

With its IPv6 option set, libzmq 4.3.5 asks for IPv6 addresses of a name and never falls back to IPv4: where `localhost` is both
127.0.0.1 and ::1, as on macOS and Debian, it would neither hear a daemon on 127.0.0.1 nor be heard there.
"""

from __future__ import annotations

import ipaddress
import socket

import zmq

LOOPBACKS = ("127.0.0.1", "[::1]")
"""What `localhost` means to a daemon: both, so that every client reaches it."""


def connect(connecting: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect a socket. A name is looked up again at each reconnection. Raises `zmq.ZMQError` for an invalid endpoint."""
    connecting.setsockopt(zmq.IPV6, needs_ipv6(endpoint))
    connecting.connect(endpoint)


def reachable(endpoint: str) -> str:
    """Return the endpoint at which a client on the same machine reaches a socket that is bound to `endpoint`."""
    host, port = _split(endpoint)
    loopback = {"*": LOOPBACKS[0], "0.0.0.0": LOOPBACKS[0], "[::]": LOOPBACKS[1]}.get(host)
    return f"tcp://{loopback}:{port}" if loopback else endpoint


def bind(binding: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind a socket; to `localhost` on both loopback addresses, if the machine has both. Raises `zmq.ZMQError`."""
    host, port = _split(endpoint)
    if host != "localhost":
        binding.setsockopt(zmq.IPV6, needs_ipv6(endpoint))
        binding.bind(endpoint)
        return
    first, second = LOOPBACKS
    binding.setsockopt(zmq.IPV6, 0)
    binding.bind(f"tcp://{first}:{port}")
    if socket.has_ipv6:
        port = binding.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        binding.setsockopt(zmq.IPV6, 1)
        try:
            binding.bind(f"tcp://{second}:{port}")
        except zmq.ZMQError as error:
            if error.errno == zmq.EADDRINUSE:
                raise  # another program would be found at that address


def needs_ipv6(endpoint: str) -> bool:
    """Return whether an endpoint can only be reached by IPv6, or stands for all addresses. May ask the name server."""
    host, _ = _split(endpoint)
    if not host:
        return False
    if host == "*":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).version == 6
    except ValueError:
        pass
    try:
        families = {info[0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # it may become known later
        return False
    return socket.AF_INET6 in families and socket.AF_INET not in families


def _split(endpoint: str) -> tuple[str, str]:
    """Return host and port of a TCP endpoint; empty for others. A source address, before a semicolon, is left out."""
    if not endpoint.startswith("tcp://"):
        return "", ""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(";")[2].rpartition(":")
    return host, port
