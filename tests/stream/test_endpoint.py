"""Where the daemon may bind, and that it leaves nothing behind when it has done so."""

from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from mertd.errors import EndpointError, UsageError
from mertd.stream.endpoint import IPC_PATH_LIMIT, BoundSocket, check_endpoint


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:5590",
        "tcp://127.0.0.1:*",
        "tcp://127.9.9.9:1",
        "tcp://localhost:65535",
        "tcp://[::1]:5590",
        "ipc:///run/user/1/mertd",
        "ipc:///" + "x" * (IPC_PATH_LIMIT - 1),
    ],
)
def test_what_others_cannot_reach_may_be_bound(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "*", "192.168.1.5", "[::]", "[fe80::1]", "example.org", "eth0", "127.0.0.1.example.org"]
)
def test_what_others_can_reach_is_refused_unless_that_is_meant(host: str) -> None:
    endpoint = f"tcp://{host}:5590"
    with pytest.raises(UsageError, match="can be reached from other machines"):
        check_endpoint(endpoint)
    assert check_endpoint(endpoint, exposed=True) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "5590",
        "127.0.0.1:5590",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://:5590",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:x",
        "udp://127.0.0.1:5590",
        "ipc://relative",
        "ipc://",
        "inproc://x",
    ],
)
@pytest.mark.parametrize("exposed", [False, True])
def test_what_is_no_endpoint_is_refused(endpoint: str, exposed: bool) -> None:
    with pytest.raises(UsageError, match="is not an endpoint; write tcp://HOST:PORT or ipc:///ABSOLUTE/PATH"):
        check_endpoint(endpoint, exposed)


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(UsageError, match=f"at most {IPC_PATH_LIMIT} bytes"):
        check_endpoint("ipc:///" + "ü" * (IPC_PATH_LIMIT // 2 + 1))


def test_a_free_port_is_told(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    bound = BoundSocket(context.socket(zmq.PUB), "tcp://127.0.0.1:*")
    scheme, host, port = bound.endpoint.split(":")
    assert (scheme, host) == ("tcp", "//127.0.0.1")
    assert int(port) > 0
    bound.close()


def test_a_port_in_use_is_refused(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    first = BoundSocket(context.socket(zmq.PUB), "tcp://127.0.0.1:*")
    second = context.socket(zmq.PUB)
    with pytest.raises(EndpointError, match="is in use"):
        BoundSocket(second, first.endpoint)
    assert second.closed
    first.close()


def test_a_socket_file_is_for_its_owner_alone_and_goes_with_the_daemon(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "run" / "publish"
    before = os.umask(0)
    os.umask(before)
    bound = BoundSocket(context.socket(zmq.PUB), f"ipc://{path}")
    assert bound.endpoint == f"ipc://{path}"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    bound.close()
    assert list(path.parent.iterdir()) == []
    assert os.umask(before) == before, "what the process makes afterwards is not affected"


def test_a_path_in_use_is_refused_and_left_alone(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    """libzmq alone would take it over in silence, and the first daemon would never be heard again."""
    path = tmp_path / "run" / "publish"
    first = BoundSocket(context.socket(zmq.REP), f"ipc://{path}")
    with pytest.raises(EndpointError, match="is in use"):
        BoundSocket(context.socket(zmq.REP), f"ipc://{path}")
    with context.socket(zmq.REQ) as client:
        client.linger = 0
        client.connect(first.endpoint)
        client.send(b"?")
        assert first.socket.poll(30_000), "the first one still listens"
    first.close()
    BoundSocket(context.socket(zmq.REP), f"ipc://{path}").close()


def bind_and_vanish(endpoint: str) -> None:
    BoundSocket(zmq.Context().socket(zmq.PUB), endpoint)
    os._exit(0)


def test_what_a_killed_daemon_left_is_no_obstacle(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    path = tmp_path / "run" / "publish"
    process = multiprocessing.get_context("spawn").Process(target=bind_and_vanish, args=(f"ipc://{path}",))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert path.exists(), "left behind"
    BoundSocket(context.socket(zmq.PUB), f"ipc://{path}").close()
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_others_may_enter_is_refused(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(EndpointError, match="can be entered by other users; chmod 700 it"):
        BoundSocket(context.socket(zmq.PUB), f"ipc://{folder / 'x'}")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("endpoint", ["tcp://192.0.2.1:5590", "ipc:///"])
def test_what_cannot_be_bound_is_explained(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    socket = context.socket(zmq.PUB)
    with pytest.raises(EndpointError, match=endpoint):
        BoundSocket(socket, endpoint)
    assert socket.closed
