"""What a subscriber may subscribe to; and that the bookkeeping ends where it began."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mertd.stream.server.subscriptions import (
    CHANGES,
    COST_PER_BYTE,
    COST_PER_ENTRY,
    MAX_COST_BYTES,
    MAX_TOPIC_BYTES,
    MAX_TOPICS_PER_CONNECTION,
    MAX_TOPICS_PER_KEY,
    Subscriptions,
)


def test_a_subscriber_may_have_what_it_needs() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    for stream in range(1_024):
        for kind in ("embedding", "event"):
            assert subscriptions.hear(1, "", b"\x01" + f"{kind}/{stream}/".encode(), 0.0) == ""
    assert subscriptions.hear(2, "", b"\x01" + b"x" * MAX_TOPIC_BYTES, 0.0) == ""


def test_each_limit_has_a_reason_of_its_own() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    assert "129 bytes" in subscriptions.hear(1, "", b"\x01" + b"x" * (MAX_TOPIC_BYTES + 1), 0.0)
    for message in (b"\x02text", b"", b"subscribe"):
        assert "not a subscription" in subscriptions.hear(1, "", message, 0.0)
    said = [subscriptions.hear(2, "", b"\x01%d" % n, 0.0) for n in range(MAX_TOPICS_PER_CONNECTION + 1)]
    assert set(said[:-1]) == {""}
    assert f"more than {MAX_TOPICS_PER_CONNECTION} topics" in said[-1]
    changes = [subscriptions.hear(3, "", [b"\x00a", b"\x01a"][n % 2], 0.0) for n in range(round(CHANGES.burst) + 1)]
    assert set(changes[:-1]) == {""}
    assert "more than 100 times a second" in changes[-1]
    assert subscriptions.hear(3, "", b"\x01a", 1.0) == "", "it has waited"


def test_a_key_has_a_limit_over_all_its_connections() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    topics = [b"\x01%d" % n for n in range(MAX_TOPICS_PER_CONNECTION)]
    for connection in range(MAX_TOPICS_PER_KEY // MAX_TOPICS_PER_CONNECTION):
        assert {subscriptions.hear(connection, "key", topic, 0.0) for topic in topics} == {""}
    assert "its key has more than" in subscriptions.hear(-1, "key", b"\x01a", 0.0)
    assert subscriptions.hear(-2, "another", b"\x01a", 0.0) == ""
    subscriptions.forget(0)
    assert subscriptions.hear(-1, "key", b"\x01a", 0.0) == ""


def test_the_one_with_most_topics_pays_when_all_cost_too_much() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    subscriptions.hear(-1, "", b"\x01embedding/", 0.0)
    connection = 0
    while subscriptions.costliest() is None:
        connection += 1
        for number in range(MAX_TOPICS_PER_CONNECTION if connection == 2 else 500):
            subscriptions.hear(connection, "", b"\x01" + f"{connection}.{number}".encode().ljust(MAX_TOPIC_BYTES, b"x"), 0.0)
    assert subscriptions.costliest() == 2
    assert subscriptions.cost > MAX_COST_BYTES
    subscriptions.forget(2)
    assert subscriptions.costliest() is None


MESSAGES = st.tuples(
    st.integers(0, 3), st.sampled_from([b"\x01a", b"\x01ab", b"\x00a", b"\x00ab", b"\x01b", b"\x00c", b"gone"])
)


@given(st.lists(MESSAGES, max_size=60))
def test_the_cost_is_that_of_the_topics_there_are(steps: list[tuple[int, bytes]]) -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    model: dict[int, set[bytes]] = {}
    for connection, message in steps:
        if message == b"gone":
            subscriptions.forget(connection)
            model.pop(connection, None)
            continue
        assert subscriptions.hear(connection, "", message, 0.0) == ""
        topics = model.setdefault(connection, set())
        (topics.add if message[0] else topics.discard)(message[1:])
        entries = sum(map(len, model.values()))
        unique = set().union(*model.values())
        assert subscriptions.cost == COST_PER_ENTRY * entries + COST_PER_BYTE * sum(map(len, unique))
    for connection in list(model):
        subscriptions.forget(connection)
    assert subscriptions.cost == 0
    assert len(subscriptions) == 0
