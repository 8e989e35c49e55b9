"""Who gets in and who does not: real sockets, real handshakes, and lists that change meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from command_process import wait_until
from example_counts import examples
from mertd.errors import EndpointError, KeysError, WireError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import ClientKeys, ServerKeys, make_pair
from mertd.stream.keyring import AllowedClient, Keyring
from mertd.stream.request import ask, pack
from mertd.stream.server.authenticator import Authenticator
from mertd.stream.server.rejections import REMEMBERED, Rejections
from mertd.wire import Embedding
from messages import embedding
from stream.guarded import Guarded, guarded
from stream.servers import PATIENCE_S, control, publisher, subscribed

STATUS = {"request": "status"}


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    """The daemon's keys, its client `local`, and `viewer`, who may listen."""
    ring = Keyring(tmp_path / "keys")
    ring.new_server()
    ring.new_client("viewer")
    ring.allow("viewer")
    return ring


@pytest.fixture
def server(ring: Keyring) -> Iterator[Guarded]:
    with guarded(ring) as found:
        yield found


def stranger(ring: Keyring, server: str | None = None) -> ClientKeys:
    pair = make_pair()
    return ClientKeys(pair.public, pair.secret, server or ring.server().public)


def listen(server: Guarded, keys: ClientKeys | None, count: int = 3) -> list[Embedding]:
    """The next messages, none of which may be lost."""
    with Subscriber(server.publish, control=server.control, keys=keys) as subscriber:
        return [hear(subscriber) for _ in range(count)]


def hear(subscriber: Subscriber) -> Embedding:
    received = subscriber.receive(PATIENCE_S)
    assert received is not None, "nothing came"
    assert isinstance(received.message, Embedding)
    assert received.lost == 0
    return received.message


def until(condition: Callable[[], bool]) -> None:
    wait_until(condition, PATIENCE_S, lambda: "it never came")


def test_who_is_allowed_may_listen_and_ask_and_only_some_may_command(server: Guarded) -> None:
    viewer, local = server.ring.client("viewer"), server.ring.client()
    assert listen(server, viewer)
    assert listen(server, local)
    for keys in (viewer, local):
        assert ask(server.control, STATUS, PATIENCE_S, keys)
    with pytest.raises(EndpointError, match=r"viewer may listen, but not control; .* --control"):
        ask(server.control, {"request": "shutdown"}, PATIENCE_S, viewer)
    assert "shutdown" not in server.asked
    assert ask(server.control, {"request": "shutdown"}, PATIENCE_S, local)
    server.ring.allow("viewer", control=True)
    until(lambda: server.authenticator._clients[viewer.public].control)
    assert ask(server.control, {"request": "shutdown"}, PATIENCE_S, viewer)
    server.ring.allow("local", control=False)
    until(lambda: not server.authenticator._clients[local.public].control)
    with pytest.raises(EndpointError, match="local may listen"):
        ask(server.control, {"request": "shutdown"}, PATIENCE_S, local)
    assert server.rejected == {}


def test_an_unknown_key_is_told_counted_and_logged_once(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    keys = stranger(server.ring)
    for _ in range(3):
        with pytest.raises(EndpointError, match=r"the daemon at .* refuses this key"):
            listen(server, keys)
        with pytest.raises(EndpointError, match="refuses this key"):
            ask(server.control, STATUS, PATIENCE_S, keys)
    assert server.rejected == {"unknown_key": 6}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, "one for each socket"
    assert all(keys.public in line and "127.0.0.1" in line and keys.secret not in line for line in lines)
    assert server.asked == []


@pytest.mark.slow
def test_no_key_is_told_counted_and_logged_once(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with pytest.raises(EndpointError, match=r"wants a key: pass --key NAME"):
            listen(server, None)
        with pytest.raises(EndpointError, match="wants a key"):
            ask(server.control, STATUS, PATIENCE_S)
    until(lambda: sum(server.rejected.values()) >= 4)
    assert server.rejected.keys() <= {"no_key", "unfinished"}, "which of both depends on who notices first"
    lines = {record.getMessage() for record in caplog.records}
    assert 2 <= len(lines) == len(caplog.records) <= 4
    assert server.asked == []


def test_a_wrong_server_key_is_told_counted_and_logged_once(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """And tells nothing to the wrong server: a client who takes it for another one cannot even be recognised."""
    local = server.ring.client()
    keys = ClientKeys(local.public, local.secret, make_pair().public)
    with pytest.raises(EndpointError, match="breaks off the handshake: its key is not the one that was given"):
        listen(server, keys)
    with pytest.raises(EndpointError, match="breaks off the handshake"):
        ask(server.control, STATUS, PATIENCE_S, keys)
    until(lambda: server.rejected.get("wrong_server_key", 0) >= 10)
    assert len([r for r in caplog.records if "another server key" in r.getMessage()]) == 2
    assert server.asked == []


def test_with_keys_nothing_is_said_to_a_server_that_has_none(ring: Keyring) -> None:
    said: list[object] = []
    with control(lambda request: said.append(request)) as endpoint:  # type: ignore[arg-type, func-returns-value]
        with pytest.raises(EndpointError, match="no encryption"):
            ask(endpoint, STATUS, PATIENCE_S, ring.client())
    with publisher() as publishing, Subscriber(publishing.endpoint, keys=ring.client()) as subscriber:
        with pytest.raises(EndpointError, match="no encryption"):
            subscriber.receive(PATIENCE_S)
        assert not publishing._bound.socket.poll(0), "it has not subscribed"
    assert said == []


@pytest.mark.parametrize("scheme", [pytest.param("tcp", marks=pytest.mark.slow), "ipc"])
def test_a_revoked_key_is_cut_off_and_the_others_miss_nothing(ring: Keyring, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    where = ("tcp://127.0.0.1:*",) * 2 if scheme == "tcp" else tuple(f"ipc://{tmp_path}/run/{name}" for name in "pc")
    with guarded(ring, *where) as server, contextlib.ExitStack() as stack:
        viewer, local = (
            stack.enter_context(Subscriber(server.publish, control=server.control, keys=ring.client(name)))
            for name in ("viewer", "local")
        )
        hear(viewer)
        seen = [hear(local).seq]
        gone = ring.client("viewer")
        ring.revoke("viewer")
        with pytest.raises(EndpointError, match="refuses this key"):
            list(iter(lambda: hear(viewer), None))
        for _ in range(100):
            seen.append(hear(local).seq)
        assert seen == list(range(seen[0], seen[0] + 101)), "what was sent meanwhile came from the history"
        assert local.lost == 0
        with pytest.raises(EndpointError, match="refuses this key"):
            ask(server.control, STATUS, PATIENCE_S, gone)
        with pytest.raises(EndpointError, match="refuses this key"):
            viewer.receive(PATIENCE_S)
        ring.allow("viewer")
        with contextlib.suppress(EndpointError):  # until the daemon has read the list
            hear(viewer)
        hear(viewer)
        assert server.authenticator.rejections.counts["unknown_key"] >= 3


def test_who_asks_without_end_is_refused_by_key_however_often_it_connects(server: Guarded) -> None:
    greedy, modest = server.ring.client("viewer"), server.ring.client()
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(8)]
        for socket in sockets:
            socket.linger = 0
            greedy.secure(socket)
            socket.connect(server.control)
        for _ in range(90):  # no connection asks more often than it may
            for socket in sockets:
                socket.send(pack(STATUS))
        answers = [msgpack.unpackb(socket.recv()) for _ in range(90) for socket in sockets if socket.poll(PATIENCE_S * 1000)]
        assert ask(server.control, STATUS, PATIENCE_S, modest)
    assert len(answers) == 720
    assert {a["error"] for a in answers if not a["ok"]} == {"too many requests: 50 a second are answered"}


def test_in_an_event_loop_a_refusal_is_told_too(server: Guarded) -> None:
    async def listen() -> None:
        with Subscriber(server.publish, keys=stranger(server.ring)) as subscriber:
            for _ in range(2):  # it tries again by itself
                with pytest.raises(EndpointError, match="refuses this key"):
                    await subscriber.receive_async(PATIENCE_S)
        with Subscriber(server.publish, keys=server.ring.client()) as subscriber:
            assert await subscriber.receive_async(PATIENCE_S)

    asyncio.run(listen())


def test_what_a_revoked_key_has_sent_before_is_not_answered(server: Guarded) -> None:
    with pytest.raises(WireError, match="this key is no longer allowed"):
        server.authenticator.check(make_pair().public, "status")


@pytest.mark.slow
def test_a_list_that_cannot_be_read_changes_nothing_and_is_told(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    path, viewer = server.ring.list_path, server.ring.client("viewer")
    good = path.read_text(encoding="utf-8")
    for spoil in (lambda: path.write_text("[viewer\n", encoding="utf-8"), lambda: path.chmod(0o644)):
        spoil()
        until(lambda: server.authenticator.facts["keys_problem"] != "")
        assert ask(server.control, STATUS, PATIENCE_S, viewer)
        path.unlink()
        path.touch(mode=0o600)
        path.write_text(good, encoding="utf-8")
        until(lambda: server.authenticator.facts["keys_problem"] == "")
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) >= 2
    assert server.authenticator.facts["clients_allowed"] == 2


def test_without_a_list_nobody_is_let_in(server: Guarded) -> None:
    server.ring.list_path.unlink()
    until(lambda: server.authenticator.facts["clients_allowed"] == 0)
    with pytest.raises(EndpointError, match="refuses this key"):
        ask(server.control, STATUS, PATIENCE_S, server.ring.client())


def test_while_there_is_no_handler_nobody_is_let_in(ring: Keyring) -> None:
    """libzmq would otherwise encrypt, and let in everyone who knows the public key."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        ring.server().secure(socket, "control")
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(EndpointError):
            ask(f"tcp://127.0.0.1:{port}", STATUS, 1.0, ring.client())
        assert not socket.poll(0)


def test_a_daemon_without_keys_does_not_start(tmp_path: Path) -> None:
    with zmq.asyncio.Context() as context, pytest.raises(KeysError, match="`mertd keys new --server` makes them"):
        Authenticator(context, Keyring(tmp_path / "none"))


FRAMES = st.lists(st.binary(max_size=40) | st.sampled_from([b"1.0", b"CURVE", b"publish", bytes(32)]), max_size=9)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authenticator]:
    ring = Keyring(tmp_path_factory.mktemp("judge") / "keys")
    ring.new_server()
    with zmq.asyncio.Context() as context:
        authenticator = Authenticator(context, ring)
        yield authenticator
        authenticator.close()


@given(FRAMES)
@settings(max_examples=examples(400))
def test_any_frames_are_judged_and_none_but_a_known_key_is_let_in(judge: Authenticator, frames: list[bytes]) -> None:
    version, _, code, _, user, _ = judge.decide(frames)
    assert (version, code, user) == (b"1.0", b"400", b"")


def test_a_known_key_is_let_in_by_curve_alone(judge: Authenticator) -> None:
    keys = judge._keyring.client()
    key = zmq.utils.z85.decode(keys.public.encode())
    good = [b"1.0", b"7", b"publish", b"127.0.0.1", b"", b"CURVE", key]
    assert judge.decide(good) == [b"1.0", b"7", b"200", b"OK", keys.public.encode(), b""]
    for bad in ([*good[:5], b"PLAIN", key], [*good[:5], b"NULL"], [b"2.0", *good[1:]], [*good, b""], [*good[:6], key[:31]]):
        assert judge.decide(bad)[2] == b"400", bad


def test_many_keys_that_knock_cost_little_memory() -> None:
    rejections = Rejections()
    for number in range(3 * REMEMBERED):
        rejections.add("unknown_key", "publish", str(number))
    assert rejections.counts == {"unknown_key": 3 * REMEMBERED}
    assert len(rejections._logged) == REMEMBERED


def test_a_topic_as_long_as_a_book_is_not_read() -> None:
    with publisher() as publishing, zmq.Context() as context, context.socket(zmq.SUB) as greedy:
        greedy.linger = 0
        greedy.subscribe(bytes(2_000))
        greedy.connect(publishing.endpoint)
        with Subscriber(publishing.endpoint) as modest:
            subscribed(publishing)
            publishing.send(embedding())
            assert modest.receive(PATIENCE_S)
        publishing._bound.socket.poll(PATIENCE_S * 1000)
        assert publishing._bound.socket.recv() == b"\x00embedding/", "the last that was heard is the modest one's good-bye"


def test_secrets_are_not_shown(ring: Keyring) -> None:
    keys, own = ring.client(), ring.server()
    assert keys.secret not in repr(keys) + str(keys)
    assert own.secret not in repr(own) + str(own)
    assert isinstance(own, ServerKeys)
    assert AllowedClient("viewer", keys.public, False) != AllowedClient("viewer", keys.public, True)
