"""Connections that take more than their share are cut off, one by one, and the others never notice."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
import zmq

from command_process import wait_until
from mertd.stream.server import connections as module
from mertd.stream.server import tcp
from mertd.stream.server.arrivals import Arrivals
from mertd.stream.server.connection import BACKLOG_LIMITS, Connection, largest_until
from mertd.stream.server.connections import Connections, limit_of_connections
from mertd.stream.server.publisher import Publisher
from mertd.stream.server.subscriptions import MAX_TOPIC_BYTES, MAX_TOPICS_PER_CONNECTION
from mertd.stream.server.unread import MAX_UNREAD_BYTES, MAX_UNREAD_BYTES_IN_ALL, UnreadReplies
from messages import embedding
from stream.servers import ANY_PORT, PATIENCE_S
from stream.zmtp import connect, frame, is_closed


@dataclass
class Served:
    """A ROUTER and a publisher whose connections are watched. Nothing is read unless a test does."""

    router: zmq.Socket[bytes]
    control: str
    publisher: Publisher
    connections: Connections
    clients: ExitStack

    def dealer(self) -> socket.socket:
        """A client of the ROUTER."""
        return self.clients.enter_context(connect(self.control, b"DEALER"))

    def subscriber(self) -> socket.socket:
        """A client of the publisher."""
        return self.clients.enter_context(connect(self.publisher.endpoint, b"SUB"))

    def find(self, count: int = 1) -> list[Connection]:
        """The open connections, once there are so many."""
        until(lambda: len(self.connections._open) >= count)
        return list(self.connections._open.values())


def until(condition: Any) -> None:
    wait_until(condition, PATIENCE_S, lambda: "it never came")


@pytest.fixture
def served() -> Iterator[Served]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    connections = Connections(context)
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.rcvhwm = 0
    connections.watch(router, "control")
    port = router.bind_to_random_port("tcp://127.0.0.1")
    publisher = Publisher(context, ANY_PORT, None, connections)
    connections.start()
    clients = ExitStack()
    try:
        yield Served(router, f"tcp://127.0.0.1:{port}", publisher, connections, clients)
    finally:
        clients.close()
        router.close()
        publisher.close()
        began = time.monotonic()
        connections.close()
        assert time.monotonic() - began < PATIENCE_S
        context.term()


def flood(connection: socket.socket, data: bytes) -> None:
    """Send until the other end hangs up."""
    for _ in range(10_000):
        try:
            connection.sendall(data)
        except ConnectionError:
            return
    raise AssertionError("it was never cut off")


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_message_of_endless_parts_is_cut_off(served: Served, size: int) -> None:
    modest = served.dealer()
    flood(served.dealer(), frame(b"x" * size, more=True) * 10_000)
    until(lambda: served.connections.severed.total() == 1)
    assert "faster than they could be read" in next(iter(served.connections.severed))
    modest.sendall(frame(b"hello"))
    assert served.router.poll(PATIENCE_S * 1000)
    assert served.router.recv_multipart()[1] == b"hello"
    assert not served.router.poll(0), "nothing of the other message came through"


def test_requests_that_nobody_reads_are_cut_off_and_read_ones_are_not(served: Served) -> None:
    reader = served.dealer()
    (connection,) = served.find()
    limit = BACKLOG_LIMITS["control"].of_one
    for _ in range(4 * limit // 1_000):  # four times the limit, but each one is read before the next
        reader.sendall(frame(b"x" * 991))
        assert served.router.poll(PATIENCE_S * 1000)
        served.router.recv_multipart()
        connection.read += 1_000
    assert not connection.severed
    flood(reader, frame(b"x" * 991) * 10)
    assert connection.severed


def test_a_flood_of_topics_is_cut_off_before_it_costs_much(served: Served) -> None:
    flood(served.subscriber(), b"".join(frame(b"\x01" + b"%08d" % n) for n in range(50_000)))
    assert served.connections.severed.total() == 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([b"\x01" + b"x" * (MAX_TOPIC_BYTES + 1)], "129 bytes"),
        ([b"\x02text"], "not a subscription"),
        ([b"\x01%d" % n for n in range(MAX_TOPICS_PER_CONNECTION + 1)], "topics"),
    ],
)
def test_a_subscriber_that_may_not_subscribe_is_cut_off(served: Served, said: list[bytes], why: str) -> None:
    modest = served.subscriber()
    modest.sendall(frame(b"\x01embedding/"))
    until(lambda: not served.publisher.read_subscriptions() and len(served.publisher._subscriptions) == 1)
    greedy = served.subscriber()
    for message in said:
        greedy.sendall(frame(message))
        served.publisher.read_subscriptions()
    until(lambda: not served.publisher.read_subscriptions() and served.connections.severed.total() == 1)
    assert why in next(iter(served.connections.severed))
    assert is_closed(greedy)
    until(lambda: not served.publisher.read_subscriptions() and len(served.publisher._subscriptions) == 1)
    served.publisher.send(embedding())
    assert modest.recv(10), "the other one is served"


def test_who_is_no_longer_allowed_is_cut_off_and_who_has_not_shown_a_key(served: Served) -> None:
    sockets = [served.dealer() for _ in range(3)]
    good, revoked, unknown = served.find(3)
    by_port = {connection.peer[1]: connection for connection in (good, revoked, unknown)}  # type: ignore[index]
    good, revoked, unknown = (by_port[one.getsockname()[1]] for one in sockets)
    good.user, revoked.user = "good", "revoked"
    served.connections.keep_only({"good"}, unknown_too=False)
    assert [one.severed for one in (good, revoked, unknown)] == [False, True, False]
    served.connections.keep_only({"good"}, unknown_too=True)
    assert [one.severed for one in (good, revoked, unknown)] == [False, True, True]
    assert is_closed(sockets[1])
    assert is_closed(sockets[2])
    sockets[0].sendall(frame(b"still here"))
    assert served.router.poll(PATIENCE_S * 1000)


def test_there_are_never_many_more_connections_than_allowed(served: Served) -> None:
    served.connections.limit = 10
    idle = [socket.create_connection(("127.0.0.1", int(served.control.rpartition(":")[2]))) for _ in range(60)]
    until(lambda: served.connections.severed.total() >= 50)
    client = served.dealer()
    client.sendall(frame(b"hello"))
    assert served.router.poll(PATIENCE_S * 1000), "a later client finds room, as the others have not even finished a handshake"
    for one in idle:
        one.close()


def test_the_limit_depends_on_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(soft: int) -> int:
        monkeypatch.setattr(module.resource, "getrlimit", lambda _: (soft, soft))
        return limit_of_connections()

    assert limit(64) == 16
    assert limit(256) == 128
    assert limit(1_024) == 704
    assert limit(1 << 20) == limit(resource.RLIM_INFINITY) == 2_048


def test_a_descriptor_that_has_another_owner_by_now_is_left_alone() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        assert not tcp.sever(mine.fileno(), socket.AF_UNIX, "another")
        assert not tcp.sever(mine.fileno(), socket.AF_INET, ("127.0.0.1", 1))
        theirs.sendall(b"x")
        assert mine.recv(1) == b"x"
    assert tcp.traffic(10_000, socket.AF_INET) is None


def test_counters_are_those_of_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            client.sendall(bytes(1_234))
            accepted.sendall(bytes(777))
            for one, size in ((accepted, 1_234), (client, 777)):
                assert len(one.recv(size, socket.MSG_WAITALL)) == size

            def counts() -> tcp.Traffic:
                found = tcp.traffic(accepted.fileno(), socket.AF_INET)
                assert found is not None
                return found

            until(lambda: counts().acknowledged >= 777)
            assert counts().received == 1_234
            assert 777 <= counts().acknowledged <= 778, "Linux counts the first packet as a byte"


def test_the_struct_of_macos_is_read_where_its_header_puts_the_fields() -> None:
    info = bytearray(112)
    struct.pack_into("=I", info, 32, 500)  # tcpi_snd_sbbytes
    struct.pack_into("=QQQQQ", info, 56, 1, 10_000, 300, 2, 77_000)  # tx packets, tx bytes, retransmitted, rx packets, rx bytes
    assert tcp.read_darwin(bytes(info)) == tcp.Traffic(received=77_000, acknowledged=9_200)
    with pytest.raises(struct.error):
        tcp.read_darwin(bytes(40))


def test_arrivals_are_told_once_and_the_wait_can_be_ended() -> None:
    arrivals = Arrivals()
    mine, theirs = socket.socketpair()
    with mine, theirs:
        arrivals.follow(mine.fileno())
        arrivals.follow(mine.fileno())
        arrivals.wait(0.0)  # something may have arrived before
        assert arrivals.wait(0.0) == set()
        theirs.sendall(b"a")
        assert arrivals.wait(PATIENCE_S) == {mine.fileno()}
        assert arrivals.wait(0.0) == set(), "nothing more has arrived"
        theirs.sendall(b"b")
        assert arrivals.wait(PATIENCE_S) == {mine.fileno()}
        waiting = threading.Thread(target=arrivals.wait, args=(PATIENCE_S,))
        waiting.start()
        arrivals.wake()
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive()
    arrivals.close()


def connection_with(unread: int) -> Connection:
    found = Connection(-1, "control", socket.AF_INET, None)
    found.unread = unread
    return found


def test_unread_replies_are_bounded_for_one_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "traffic", lambda *_: tcp.Traffic(0, 0))  # nobody acknowledges anything
    replies = UnreadReplies()
    everyone = [connection_with(0) for _ in range(6)]
    for one in everyone[: MAX_UNREAD_BYTES_IN_ALL // MAX_UNREAD_BYTES]:
        while replies.allows(one, 500_000):
            replies.add(one, 500_000)
        assert MAX_UNREAD_BYTES - 500_000 < one.unread <= MAX_UNREAD_BYTES
        assert replies.allows(one, 200), "an error still fits"
    assert replies.in_the_way(everyone, 100) == []
    replies.add(everyone[4], 500_000)
    in_the_way = replies.in_the_way(everyone, MAX_UNREAD_BYTES_IN_ALL // 8)
    assert in_the_way
    assert everyone[4] not in in_the_way
    for one in in_the_way:
        replies.forget(one)
    assert replies.in_the_way(everyone, 500_000) == []


def test_a_reply_that_comes_when_its_client_has_gone_does_not_count(served: Served) -> None:
    """A client repeats its request over other connections, takes the first reply, and closes them all."""
    client = served.dealer()
    (gone,) = served.find()
    client.close()
    until(lambda: not served.connections._open)
    served.dealer()
    (there,) = served.find()
    for _ in range(8):
        assert served.connections.make_room(gone, MAX_UNREAD_BYTES // 2)
        served.connections.note_sent(gone, MAX_UNREAD_BYTES // 2)
    assert served.connections.make_room(there, MAX_UNREAD_BYTES // 2)
    assert not there.severed


def test_those_with_most_go_first_and_no_more_than_need_be() -> None:
    few, most, some = (connection_with(unread) for unread in (10, 300, 200))

    def go(excess: float) -> list[Connection]:
        return list(largest_until([few, most, some], lambda one: one.unread, excess))

    assert go(0) == go(-5) == []
    assert go(300) == [most]
    assert go(301) == [most, some]
    assert go(10_000) == [most, some, few]


def test_what_was_acknowledged_besides_replies_is_no_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledged = 0
    monkeypatch.setattr(tcp, "traffic", lambda *_: tcp.Traffic(0, acknowledged))
    replies, one = UnreadReplies(), connection_with(0)
    acknowledged = 1_000_000  # handshakes, encryption, frames
    replies.add(one, 100_000)
    assert one.measure_unread() == 0
    replies.add(one, 100_000)
    assert one.measure_unread() == 100_000


def test_a_descriptor_that_went_from_one_socket_to_the_other_stays_watched(served: Served) -> None:
    """The sockets report one after the other: the end of a connection may be read after the beginning of the next one."""
    served.dealer()
    (connection,) = served.find()
    publish = next(watched for watched in served.connections._sockets if watched.domain == "publish")

    class Late:
        """Events of a monitor."""

        def waiting(self) -> list[tuple[int, int]]:
            return [(zmq.EVENT_DISCONNECTED, connection.descriptor)]

    served.connections._read_events(replace(publish, monitor=Late()))  # type: ignore[arg-type]
    assert served.connections._open == {connection.descriptor: connection}


def test_who_has_shaken_hands_or_said_something_stays_when_there_are_too_many(served: Served) -> None:
    client = served.dealer()
    client.sendall(frame(b"hello"))
    served.connections.limit = 10
    idle = [socket.create_connection(("127.0.0.1", int(served.control.rpartition(":")[2]))) for _ in range(60)]
    until(lambda: served.connections.severed.total() >= 51)
    client.sendall(frame(b"again"))
    for word in (b"hello", b"again"):
        assert served.router.poll(PATIENCE_S * 1000)
        assert served.router.recv_multipart()[1] == word
    for one in idle:
        one.close()
