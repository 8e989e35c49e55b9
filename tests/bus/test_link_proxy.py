"""Links that can be broken: what is sent arrives, waits, is gone or is refused, as each fault says."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from bus.link_proxy import Fault, Link
from command_process import PATIENCE_S

SILENCE_S = 0.05


@pytest.fixture
def target() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server


@pytest.fixture
def link(target: socket.socket) -> Iterator[Link]:
    made = Link(target.getsockname()[1])
    yield made
    made.close()


def _connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), PATIENCE_S)


def _is_silent(end: socket.socket) -> bool:
    return not select.select([end], [], [], SILENCE_S)[0]


def _is_cut(end: socket.socket) -> bool:
    try:
        return end.recv(9) == b""
    except ConnectionError:
        return True


def _is_cut_at_once(link: Link) -> bool:
    """Whether a new connection is cut, perhaps before the client has noticed that it was made."""
    try:
        with _connect(link) as late:
            return _is_cut(late)
    except ConnectionResetError:
        return True


@contextlib.contextmanager
def _ends(link: Link, target: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    with _connect(link) as near:
        far, _ = target.accept()
        far.settimeout(PATIENCE_S)
        with far:
            near.sendall(b"before")
            assert far.recv(9) == b"before"
            yield near, far


def test_what_a_stalled_link_holds_arrives_when_it_is_healed(link: Link, target: socket.socket) -> None:
    with _ends(link, target) as (near, far):
        link.drop(Fault.STALL)
        near.sendall(b"during")
        far.sendall(b"answer")
        with _connect(link) as late:
            late.sendall(b"late")
            assert _is_silent(far)
            assert _is_silent(near)
            link.heal()
            assert far.recv(9) == b"during"
            assert near.recv(9) == b"answer"
            other, _ = target.accept()
            with other:
                assert other.recv(9) == b"late"


def test_what_a_link_has_swallowed_is_gone_and_its_connections_are_cut(link: Link, target: socket.socket) -> None:
    with _ends(link, target) as (near, far):
        link.drop(Fault.SWALLOW)
        near.sendall(b"during")
        with _connect(link) as late:
            late.sendall(b"late")
            assert _is_silent(far)
            assert _is_silent(late)
            link.heal()
            assert _is_cut(late)
        assert _is_cut(far)
        assert _is_cut(near)
    with _ends(link, target):
        pass


def test_a_link_that_refuses_cuts_all_connections(link: Link, target: socket.socket) -> None:
    with _ends(link, target) as (near, far):
        link.drop(Fault.REFUSE)
        assert _is_cut(near)
        assert _is_cut(far)
    assert _is_cut_at_once(link)
    link.heal()
    with _ends(link, target):
        pass
