"""Attacks on the publishing socket by clients without keys."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

from attacks.on_requests import BURST_BYTES, SMALL_BUFFER
from attacks.target import Target
from attacks.zmtp import MORE, Peer, command, frame, ping
from mertd.stream.server.subscriptions import MAX_TOPICS_PER_CONNECTION

SUBSCRIBE = b"\x01"
UNSUBSCRIBE = b"\x00"
USER_MESSAGE = b"\x02"

AT_ONCE = 2_000
"""Subscriptions that a flood sends at once."""


def topics(size: int = 0, prefix: bytes = b"") -> Iterator[bytes]:
    """Yield different topics of at least `size` bytes, without end."""
    for number in itertools.count():
        yield (prefix + b"%d." % number).ljust(size, b"x")


def subscriptions(size: int = 0, prefix: bytes = b"") -> Callable[[], bytes]:
    """Return what gives the next subscriptions to topics of `size` bytes."""
    names = topics(size, prefix)
    return lambda: b"".join(frame(SUBSCRIBE + next(names)) for _ in range(AT_ONCE))


def short_topics(target: Target) -> None:
    """Subscribe to new short topics without end."""
    target.flood(target.publish_port, b"SUB", subscriptions())


def long_topics(target: Target) -> None:
    """Subscribe to new topics of 128 bytes, the most allowed, and of 500, by turns."""
    sizes = itertools.cycle([subscriptions(128), subscriptions(500), subscriptions(100_000)])
    for peer in target.peers(target.publish_port, b"SUB"):
        payload = next(sizes)
        with contextlib.suppress(OSError):
            while target.going_on():
                peer.send(payload())


def changes_of_mind(target: Target) -> None:
    """Subscribe and unsubscribe at once, without end: to new topics, and to the same one."""
    names = topics()

    def new() -> bytes:
        chosen = [next(names) for _ in range(AT_ONCE)]
        return b"".join(frame(SUBSCRIBE + name) + frame(UNSUBSCRIBE + name) for name in chosen)

    same = (frame(SUBSCRIBE + b"same") + frame(UNSUBSCRIBE + b"same")) * AT_ONCE
    for round_, peer in enumerate(target.peers(target.publish_port, b"SUB")):
        with contextlib.suppress(OSError):
            while target.going_on():
                peer.send(same if round_ % 2 else new())


def commands_of_31(target: Target) -> None:
    """Subscribe without end as ZMTP 3.1 has it, by commands; and cancel what was never subscribed to."""
    names = topics()

    def payload() -> bytes:
        chosen = [next(names) for _ in range(AT_ONCE)]
        return b"".join(command(b"SUBSCRIBE", name) + command(b"CANCEL", b"never" + name) for name in chosen)

    target.flood(target.publish_port, b"SUB", payload)


def user_messages(target: Target) -> None:
    """Send what is no subscription, which a publishing socket gives to its program."""
    target.flood(target.publish_port, b"XSUB", lambda: frame(USER_MESSAGE + b"x" * 100) * AT_ONCE)


def endless_parts(target: Target) -> None:
    """A message of parts without end, of 0, 1 and 100 bytes in turn."""
    payloads = [frame(b"x" * size, MORE) for size in (0, 1, 100)]
    bursts = itertools.cycle([payload * (BURST_BYTES // len(payload)) for payload in payloads])
    for peer in target.peers(target.publish_port, b"XSUB"):
        burst = next(bursts)
        with contextlib.suppress(OSError):
            while target.going_on():
                peer.send(burst)


def pings_behind_subscriptions(target: Target) -> None:
    """PINGs behind subscriptions and between them; then reset."""
    names = topics()
    pings = [ping(), ping(ttl=1), ping(context=b"c" * 16)]
    for round_, peer in enumerate(target.peers(target.publish_port, b"SUB", receive_buffer=SMALL_BUFFER)):
        chosen = pings[round_ % len(pings)]
        with contextlib.suppress(OSError):
            peer.send(b"".join(frame(SUBSCRIBE + next(names)) for _ in range(3_000)) + chosen * 200)
            time.sleep(0.1)
            peer.send(b"".join(frame(SUBSCRIBE + next(names)) + chosen for _ in range(300)))
            time.sleep(0.15)


def spread_over_connections(target: Target) -> None:
    """Hundreds of connections, each of which stays just within what one may have: long topics that nobody else has."""
    held: list[Peer] = []
    for number in itertools.count():
        if not target.going_on():
            return
        names = topics(128, b"%d-" % number)
        wave = b"".join(frame(SUBSCRIBE + next(names)) for _ in range(MAX_TOPICS_PER_CONNECTION - 1))
        try:
            peer = Peer(target.publish_port, b"SUB")
            for start in range(0, len(wave), 16_384):  # slowly enough not to be cut off for its speed
                peer.send(wave[start : start + 16_384])
                time.sleep(0.005)
            held.append(peer)
        except OSError:
            time.sleep(0.01)


def never_read(target: Target) -> None:
    """A thousand subscribers to everything that never read."""
    held: list[Peer] = []
    while target.going_on():
        if len(held) >= 1_000:
            time.sleep(0.1)
            continue
        with contextlib.suppress(OSError):
            peer = Peer(target.publish_port, b"SUB", receive_buffer=SMALL_BUFFER)
            peer.send(frame(SUBSCRIBE))
            held.append(peer)
