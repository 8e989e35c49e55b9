"""The attacks on a daemon, each with what its victim needs and the public reports of the same kind of fault."""

from __future__ import annotations

import time

from attacks import encrypted, on_connections, on_requests, on_subscriptions
from attacks.target import MANY_SOURCES, Attack, Target

FEW_DESCRIPTORS = 256


def rest(target: Target) -> None:
    """Do nothing: what the figures are without an attack, on this machine and under its load of the moment."""
    while target.going_on():
        time.sleep(0.1)


BASELINES = [
    Attack("no attack", (rest,)),
    Attack("no attack, 24 streams", (rest,), sources=MANY_SOURCES, hop_s=1.0),
    Attack("no attack, encrypted", (rest,), curve=True),
]

UNENCRYPTED = [
    Attack("requests, then reset", (on_requests.pipelined_then_reset,)),
    Attack("PINGs behind requests, then reset", (on_requests.pings_behind_requests,)),
    Attack("PINGs behind subscriptions, then reset", (on_subscriptions.pings_behind_subscriptions,)),
    Attack("unexpected commands", (on_requests.commands,)),
    Attack("endless parts, requests", (on_requests.endless_parts,)),
    Attack("endless parts, 30 connections", (on_requests.endless_parts_from_many,)),
    Attack("many parts within the limit", (on_requests.just_under_the_limit_of_parts,)),
    Attack("endless parts, subscriptions", (on_subscriptions.endless_parts,)),
    Attack("100 clients within their allowance", (on_requests.within_the_allowance,)),
    Attack("unread history", (on_requests.history_unread,), sources=MANY_SOURCES, hop_s=1.0),
    Attack("unread history, 100 clients", (on_requests.history_unread_by_many,), sources=MANY_SOURCES, hop_s=1.0),
    Attack("unread status, 24 streams", (on_requests.status_unread,), sources=MANY_SOURCES, hop_s=1.0),
    Attack("short topics", (on_subscriptions.short_topics,)),
    Attack("long topics", (on_subscriptions.long_topics,)),
    Attack("subscribing and unsubscribing", (on_subscriptions.changes_of_mind,)),
    Attack("subscriptions by ZMTP 3.1 commands", (on_subscriptions.commands_of_31,)),
    Attack("messages to the publisher", (on_subscriptions.user_messages,)),
    Attack("short topics, 3 attackers", (on_subscriptions.short_topics,) * 3),
    Attack("topics over many connections", (on_subscriptions.spread_over_connections,)),
    Attack("1,000 subscribers that never read", (on_subscriptions.never_read,)),
    Attack("2,000 half-open connections", (on_connections.half_open,)),
    Attack("half-open, 256 descriptors", (on_connections.half_open,), descriptors=FEW_DESCRIPTORS),
    Attack("one byte a second", (on_connections.slow_loris,)),
    Attack("frames that claim huge sizes", (on_connections.huge_claims,)),
    Attack("garbage and replayed handshakes", (on_connections.garbage_handshakes,)),
    Attack(
        "several at once",
        (
            on_subscriptions.short_topics,
            on_requests.endless_parts,
            on_requests.history_unread_by_many,
            on_connections.half_open,
            on_connections.garbage_handshakes,
        ),
    ),
]

FLOODS = {
    "requests, then hang-up": encrypted.pipelined_then_hangup,
    "requests": encrypted.flood_of_requests,
    "many parts": encrypted.many_parts,
    "topics": encrypted.flood_of_subscriptions,
    "subscribing and unsubscribing": encrypted.changes_of_mind,
    "handshakes": encrypted.reconnecting,
}

ENCRYPTED = [Attack(f"encrypted: {name}", (run,), curve=True) for name, run in FLOODS.items()] + [
    Attack(
        f"encrypted, no free descriptors: {name}",
        (run, on_connections.fill_descriptors),
        curve=True,
        descriptors=FEW_DESCRIPTORS,
    )
    for name, run in FLOODS.items()
]

ATTACKS = [*BASELINES, *UNENCRYPTED, *ENCRYPTED]
