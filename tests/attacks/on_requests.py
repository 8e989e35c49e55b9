"""Attacks on the control socket by clients without keys."""

from __future__ import annotations

import contextlib
import itertools
import time

import msgpack

from attacks.target import Target
from attacks.zmtp import COMMAND, MORE, Peer, command, frame, ping
from mertd.stream.server.control_server import REQUESTS

STATUS = msgpack.packb({"schema": 1, "request": "status"})
HISTORY = msgpack.packb({"schema": 1, "request": "history", "kind": "embedding", "last": 256})

BURST_BYTES = 1 << 20
"""Bytes that a flood sends at once."""

SMALL_BUFFER = 4_096
"""Bytes that the kernel keeps for an attacker who reads nothing."""


def pipelined_then_reset(target: Target) -> None:
    """Send thousands of requests, wait for the daemon to begin on them, and reset the connection."""
    for peer in target.peers(target.control_port, b"DEALER"):
        with contextlib.suppress(OSError):
            peer.send(frame(STATUS) * 5_000)
            time.sleep(0.1)


def pings_behind_requests(target: Target) -> None:
    """PINGs, some with a TTL, behind requests and between them; then reset. What libzmq then asserts aborts it."""
    pings = [ping(), ping(ttl=1), ping(ttl=1, context=b"c" * 16), ping(context=b"c" * 200)]
    for round_, peer in enumerate(target.peers(target.control_port, b"DEALER", receive_buffer=SMALL_BUFFER)):
        with contextlib.suppress(OSError):
            peer.send(frame(STATUS) * 400 + pings[round_ % len(pings)] * 200)
            time.sleep(0.1)
            peer.send((frame(STATUS) + pings[round_ % len(pings)]) * 300)
            time.sleep(0.15)  # a TTL of 0.1 s has run out


def commands(target: Target) -> None:
    """Commands that no one expects there: of ZMTP 3.1, of other sockets, unknown ones, empty ones; by the megabyte."""
    strange = [
        command(b"SUBSCRIBE", b"topic"),
        command(b"CANCEL", b"topic"),
        command(b"JOIN", b"group"),
        command(b"READY"),
        command(b"ERROR", b"\xff" + b"e" * 10),
        command(b"PONG", b"c" * 200),
        command(b"UNKNOWN", b"x" * 100),
        frame(b"", COMMAND),
        frame(b"\xffPING", COMMAND),
        frame(b"\x04PING", COMMAND | MORE),
    ]
    port_and_kind = [(target.control_port, b"DEALER"), (target.publish_port, b"SUB")]
    for one, (port, kind) in zip(itertools.cycle(strange * 2), itertools.cycle(port_and_kind), strict=False):
        if not target.going_on():
            return
        with contextlib.suppress(OSError), Peer(port, kind) as peer:
            for _ in range(20):
                peer.send(one * 1_000)


def endless_parts(target: Target) -> None:
    """One request of parts without end, of 0, 1 and 100 bytes in turn; again as soon as it is cut off."""
    payloads = [frame(b"x" * size, MORE) for size in (0, 1, 100)]
    bursts = itertools.cycle([payload * (BURST_BYTES // len(payload)) for payload in payloads])
    for peer in target.peers(target.control_port, b"DEALER"):
        burst = next(bursts)
        with contextlib.suppress(OSError):
            while target.going_on():
                peer.send(burst)


def endless_parts_from_many(target: Target) -> None:
    """The same on 30 connections at once."""
    many(target, 30, frame(b"", MORE) * 16_384)


def just_under_the_limit_of_parts(target: Target) -> None:
    """Messages of many empty parts, each of which ends before its connection would be cut off."""
    messages = [frame(b"", MORE) * parts + frame(b"end") for parts in (7_000, 14_000, 30_000)]
    many(target, 10, messages[0] + messages[1] + messages[0] + messages[2], pause_s=0.05)


def many(target: Target, count: int, payload: bytes, pause_s: float = 0.0) -> None:
    """Keep `count` connections to the control socket and send `payload` on each in turn, as much of it as is taken."""
    peers: list[Peer | None] = [None] * count
    unsent = [b""] * count
    while target.going_on():
        for index, peer in enumerate(peers):
            try:
                if peer is None:
                    peer = peers[index] = Peer(target.control_port, b"DEALER")
                    peer.socket.setblocking(False)
                    unsent[index] = b""
                data = unsent[index] or payload
                unsent[index] = data[peer.socket.send(data) :]
            except BlockingIOError:
                continue
            except OSError:
                if peer is not None:
                    peer.close()
                peers[index] = None
        time.sleep(pause_s)


def within_the_allowance(target: Target) -> None:
    """A hundred clients, each of which asks just less often than it may and reads every answer."""
    pause_s = 1.1 / REQUESTS.per_second
    peers = [Peer(target.control_port, b"DEALER") for _ in range(100)]
    for peer in peers:
        peer.socket.setblocking(False)
    while target.going_on():
        began = time.monotonic()
        for index, peer in enumerate(peers):
            with contextlib.suppress(OSError):
                peer.socket.recv(1 << 20)
            try:
                peer.send(frame(STATUS))
            except BlockingIOError:
                continue
            except OSError:
                with contextlib.suppress(OSError):
                    peers[index] = Peer(target.control_port, b"DEALER")
                    peers[index].socket.setblocking(False)
        time.sleep(max(0.0, began + pause_s - time.monotonic()))


def history_unread(target: Target) -> None:
    """Ask for pages of history, and read none; on one connection."""
    unread(target, 1, HISTORY)


def history_unread_by_many(target: Target) -> None:
    """The same on 100 connections."""
    unread(target, 100, HISTORY)


def status_unread(target: Target) -> None:
    """Ask for the status of a daemon with many streams, and read none; on 100 connections."""
    unread(target, 100, STATUS)


def unread(target: Target, count: int, question: bytes) -> None:
    peers: list[Peer | None] = [None] * count
    while target.going_on():
        for index, peer in enumerate(peers):
            try:
                if peer is None:
                    peer = peers[index] = Peer(target.control_port, b"DEALER", receive_buffer=SMALL_BUFFER)
                    peer.socket.settimeout(0.05)
                peer.send(frame(question))
            except TimeoutError:
                continue
            except OSError:
                if peer is not None:
                    peer.close()
                peers[index] = None
        time.sleep(0.02)
