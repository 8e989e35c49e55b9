"""The attacks, each with what its victim needs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from attacks import encrypted, on_clients, on_connections, on_requests, on_sound, on_subscriptions
from attacks.target import MANY_SOURCES, SIX_SOURCES, Attack, Target
from attacks.trial import Row, try_attack

FEW_DESCRIPTORS = 256


def rest(target: Target) -> None:
    """Do nothing: what the figures are without an attack, on this machine and under its load of the moment."""
    while target.going_on():
        time.sleep(0.1)


BASELINES = [
    Attack("no attack", (rest,)),
    Attack("no attack, 24 streams", (rest,), sources=MANY_SOURCES, hop_s=1.0, in_ci=False),
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
    Attack("unread history", (on_requests.history_unread,), sources=SIX_SOURCES, hop_s=0.25, in_ci=False),
    Attack("unread history, 100 clients", (on_requests.history_unread_by_many,), sources=SIX_SOURCES, hop_s=0.25),
    Attack("unread status, 24 streams", (on_requests.status_unread,), sources=MANY_SOURCES, hop_s=1.0, in_ci=False),
    Attack("short topics", (on_subscriptions.short_topics,), in_ci=False),
    Attack("long topics", (on_subscriptions.long_topics,)),
    Attack("subscribing and unsubscribing", (on_subscriptions.changes_of_mind,)),
    Attack("subscriptions by ZMTP 3.1 commands", (on_subscriptions.commands_of_31,)),
    Attack("messages to the publisher", (on_subscriptions.user_messages,), in_ci=False),
    Attack("short topics, 3 attackers", (on_subscriptions.short_topics,) * 3),
    Attack("topics over many connections", (on_subscriptions.spread_over_connections,)),
    Attack("1,000 subscribers that never read", (on_subscriptions.never_read,)),
    Attack("2,000 half-open connections", (on_connections.half_open,)),
    Attack("half-open, 256 descriptors", (on_connections.half_open,), descriptors=FEW_DESCRIPTORS),
    Attack("one byte a second", (on_connections.slow_loris,), in_ci=False),
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

IN_CI_WITH_DESCRIPTORS = ("requests, then hang-up", "topics")
"""Floods that run in CI while descriptors are free."""

IN_CI_WITHOUT_DESCRIPTORS = ("requests, then hang-up", "subscribing and unsubscribing", "handshakes")
"""Floods that run in CI while there are no free descriptors."""

FLOODS = {
    "requests, then hang-up": encrypted.pipelined_then_hangup,
    "requests": encrypted.flood_of_requests,
    "many parts": encrypted.many_parts,
    "topics": encrypted.flood_of_subscriptions,
    "subscribing and unsubscribing": encrypted.changes_of_mind,
    "handshakes": encrypted.reconnecting,
}

WITH_DESCRIPTORS = [
    Attack(f"encrypted: {name}", (run,), curve=True, in_ci=name in IN_CI_WITH_DESCRIPTORS) for name, run in FLOODS.items()
]

WITHOUT_DESCRIPTORS = [
    Attack(
        f"encrypted, no free descriptors: {name}",
        (run, on_connections.fill_descriptors),
        curve=True,
        descriptors=FEW_DESCRIPTORS,
        in_ci=name in IN_CI_WITHOUT_DESCRIPTORS,
    )
    for name, run in FLOODS.items()
]

ATTACKS = [*BASELINES, *UNENCRYPTED, *WITH_DESCRIPTORS, *WITHOUT_DESCRIPTORS]


def trial(attack: Attack) -> Callable[[float, random.Random], Row]:
    """Return a function that tries this attack."""
    return lambda seconds, chance: try_attack(attack, seconds, chance)


def trials(only: list[str], everything: bool) -> dict[str, Callable[[float, random.Random], Row]]:
    """Return what to run, by name: all whose name contains one of `only`, if any; without `everything`, only those of CI."""
    found = {attack.name: trial(attack) for attack in ATTACKS if everything or only or attack.in_ci}
    found[on_sound.NAME] = lambda seconds, _: on_sound.extreme_samples(seconds)
    found |= {name: lambda seconds, _, run=run: run(seconds) for name, run in on_clients.TRIALS.items()}
    return {name: run for name, run in found.items() if not only or any(text in name for text in only)}
