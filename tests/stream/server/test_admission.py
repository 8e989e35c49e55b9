"""New connections wait while the daemon does not keep up; and bytes are counted as they are on the wire."""

from __future__ import annotations

import threading

import pytest
import zmq

from mertd.stream.server.connection import BACKLOG_LIMITS, Connection
from mertd.stream.server.left_behind import LeftBehind
from stream.server.test_connections import Served, served, until
from stream.servers import PATIENCE_S
from stream.zmtp import frame

__all__ = ["served"]

HANDSHAKE_BYTES = 64 + 43
"""A greeting and the READY command of a DEALER."""


def test_a_new_connection_waits_while_those_before_it_have_left_too_much_unread(served: Served) -> None:
    served.connections.left_behind._bytes["publish"] = BACKLOG_LIMITS["publish"].of_gone + 1.0
    subscriber = threading.Thread(target=served.subscriber)
    subscriber.start()
    served.dealer()  # the other socket does not make anyone wait
    served.find(2)
    assert subscriber.is_alive()
    assert served.connections.left_behind.of("publish") > BACKLOG_LIMITS["publish"].of_gone
    assert not served.publisher.read_subscriptions(), "it finds the socket empty: nothing is left"
    subscriber.join(PATIENCE_S)
    assert not subscriber.is_alive()
    assert served.connections.left_behind.of("publish") == 0


def test_what_a_connection_has_sent_and_no_one_has_read_stays_when_it_goes(served: Served) -> None:
    greedy = served.subscriber()
    greedy.sendall(b"".join(frame(b"\x01" + b"%08d" % n) for n in range(1_000)))
    (connection,) = served.find()
    until(lambda: connection.backlog > 10_000)
    greedy.close()
    until(lambda: served.connections.left_behind.of("publish") > 10_000)
    while served.publisher.read_subscriptions():
        pass
    assert served.connections.left_behind.of("publish") == 0


@pytest.mark.parametrize("size", [0, 1, 255, 256, 4_000])
def test_a_part_is_counted_as_on_the_wire(served: Served, size: int) -> None:
    client = served.dealer()
    (connection,) = served.find()
    client.sendall(frame(bytes(size)))
    assert served.router.poll(PATIENCE_S * 1000)
    connection.note_read(size)
    until(lambda: connection.received == HANDSHAKE_BYTES + connection.read)


def test_encryption_is_counted() -> None:
    connection = Connection(0, "control", 0, None, user="key")
    connection.note_read(10)
    assert connection.read == 10 + 33 + 2


def test_a_connection_that_never_sent_anything_leaves_nothing() -> None:
    left_behind = LeftBehind()
    for _ in range(1_000):
        left_behind.add(Connection(0, "publish", 0, None))
    assert left_behind.of("publish") == 0
    assert left_behind.is_little("publish")


def test_without_a_handler_no_one_is_let_in(served: Served) -> None:
    assert served.router.getsockopt(zmq.ZAP_ENFORCE_DOMAIN) == 1
