"""A port for a server of a test."""

from __future__ import annotations

import random
import socket

PORTS = range(10_000, 32_000)
"""Below those that systems give to connections, so that a server which is started again finds its port free."""


def free_port() -> int:
    """Return a port of the loopback device at which nobody listens."""
    chance = random.SystemRandom()
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
