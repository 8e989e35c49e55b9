"""What subscribers have subscribed to, and whether that is more than a subscriber may.

Rules of this file: no socket, no clock. libzmq keeps every topic of every connection in a tree of its own and sets no limit, so
the limits are here: on the length of a topic, on how many topics a connection and a key may have, on how often a connection may
change its mind, and on what all topics together cost. Where one is exceeded, the connection that exceeds it has to go.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mertd.stream.server.allowance import Bucket, Rate

MAX_TOPIC_BYTES = 128
"""Longest topic. Those of mertd have at most 74 bytes."""

MAX_TOPICS_PER_CONNECTION = 2_048
"""Topics of one connection: two kinds of 1,024 streams, by name."""

MAX_TOPICS_PER_KEY = 16_384
"""Topics of all connections with one public key."""

CHANGES = Rate(burst=4_096.0, per_second=100.0)
"""How often a connection may subscribe or unsubscribe."""

COST_PER_BYTE = 64
"""Bytes of memory that libzmq's tree takes for a byte of a topic that nobody else has: measured, rounded up."""

COST_PER_ENTRY = 96
"""Bytes of memory that it takes to note one more connection at a topic."""

MAX_COST_BYTES = 24 << 20
"""Memory that all topics together may take."""

UNSUBSCRIBE = b"\x00"
"""First byte of a message that ends a subscription, by ZMTP 3.0; the topic follows."""

SUBSCRIBE = b"\x01"
"""First byte of a message that begins one."""


C = TypeVar("C")


@dataclass
class _Topics:
    """Of one connection. `key`: its public key, or empty without encryption."""

    key: str
    changes: Bucket
    topics: set[bytes] = field(default_factory=set)


class Subscriptions(Generic[C]):
    """Topics of all connections. `C`: what tells connections apart."""

    def __init__(self) -> None:
        self._subscribers: dict[C, _Topics] = {}
        self._holders: Counter[bytes] = Counter()
        self._topics_of_key: Counter[str] = Counter()
        self.cost = 0

    def hear(self, connection: C, key: str, message: bytes, now: float) -> str:
        """Note what a subscriber has said at `now`. Gives why it has to go, or nothing if it may stay."""
        subscriber = self._subscribers.get(connection)
        if subscriber is None:
            subscriber = self._subscribers[connection] = _Topics(key, Bucket(CHANGES, now))
        if not subscriber.changes.take(now):
            return f"it changes its subscriptions more than {CHANGES.per_second:.0f} times a second"
        if message[:1] == SUBSCRIBE:
            return self._add(subscriber, message[1:])
        if message[:1] == UNSUBSCRIBE:
            self._remove(subscriber, message[1:])
            return ""
        return "it sent something that is not a subscription"

    def _add(self, subscriber: _Topics, topic: bytes) -> str:
        if len(topic) > MAX_TOPIC_BYTES:
            return f"its topic has {len(topic)} bytes; {MAX_TOPIC_BYTES} are allowed"
        if topic in subscriber.topics:
            return ""
        if len(subscriber.topics) >= MAX_TOPICS_PER_CONNECTION:
            return f"it has more than {MAX_TOPICS_PER_CONNECTION} topics"
        if subscriber.key and self._topics_of_key[subscriber.key] >= MAX_TOPICS_PER_KEY:
            return f"its key has more than {MAX_TOPICS_PER_KEY} topics"
        subscriber.topics.add(topic)
        self._topics_of_key[subscriber.key] += 1
        self._holders[topic] += 1
        self.cost += COST_PER_ENTRY + (COST_PER_BYTE * len(topic) if self._holders[topic] == 1 else 0)
        return ""

    def _remove(self, subscriber: _Topics, topic: bytes) -> None:
        if topic not in subscriber.topics:
            return
        subscriber.topics.remove(topic)
        self._topics_of_key[subscriber.key] -= 1
        if not self._topics_of_key[subscriber.key]:
            del self._topics_of_key[subscriber.key]
        self._holders[topic] -= 1
        self.cost -= COST_PER_ENTRY
        if not self._holders[topic]:
            del self._holders[topic]
            self.cost -= COST_PER_BYTE * len(topic)

    def forget(self, connection: C) -> None:
        """The connection is gone, and its topics with it."""
        if subscriber := self._subscribers.pop(connection, None):
            for topic in list(subscriber.topics):
                self._remove(subscriber, topic)

    def costliest(self) -> C | None:
        """The connection with most topics, if all together cost too much."""
        if self.cost <= MAX_COST_BYTES:
            return None
        return max(self._subscribers, key=lambda connection: len(self._subscribers[connection].topics))

    def __len__(self) -> int:
        return len(self._subscribers)
