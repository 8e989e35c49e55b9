"""IPv4 and IPv6: `localhost` is both, and everybody finds everybody there."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import zmq

from mertd.stream import families
from mertd.stream.families import needs_ipv6
from mertd.stream.server.publisher import Publisher
from messages import embedding
from stream.servers import PATIENCE_S, publisher


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("tcp://127.0.0.1:5590", False),
        ("tcp://[::1]:5590", True),
        ("tcp://[::ffff:127.0.0.1]:5590", True),
        ("tcp://*:5590", True),
        ("tcp://0.0.0.0:5590", False),
        ("tcp://192.0.2.1:0;127.0.0.1:5590", False),
        ("ipc:///tmp/x", False),
        ("nonsense", False),
        ("tcp://not-a-name.invalid:5590", False),
    ],
)
def test_literal_addresses_say_it_themselves(endpoint: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families.socket, "getaddrinfo", _no_name_server)
    assert needs_ipv6(endpoint) == expected


def _no_name_server(*_: object, **__: object) -> list[Any]:
    raise socket.gaierror("there is no name server")


@pytest.mark.parametrize(("known", "expected"), [("4", False), ("46", False), ("64", False), ("6", True), ("", False)])
def test_a_name_is_ipv6_only_if_it_has_nothing_else(known: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [({"4": socket.AF_INET, "6": socket.AF_INET6}[one], None) for one in known]
    monkeypatch.setattr(families.socket, "getaddrinfo", lambda *_, **__: infos)
    assert needs_ipv6("tcp://studio:5590") == expected


def reached(publishing: Publisher, endpoint: str) -> bool:
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe("")
        families.connect(subscriber, endpoint)
        heard = publishing._bound.socket
        while not (heard.poll(PATIENCE_S * 1000) and heard.recv() == b"\x01"):  # the one before may still say good-bye
            assert heard.poll(PATIENCE_S * 1000), "nobody subscribes"
        publishing.send(embedding())
        return bool(subscriber.poll(PATIENCE_S * 1000))


def test_who_binds_localhost_is_reached_at_both_loopback_addresses() -> None:
    with publisher("tcp://localhost:*") as publishing:
        assert publishing.endpoint.startswith("tcp://localhost:")
        port = publishing.endpoint.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", *(["[::1]"] if socket.has_ipv6 else [])):
            assert reached(publishing, f"tcp://{host}:{port}"), host


def test_localhost_finds_who_is_bound_to_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET6, None), (socket.AF_INET, None)]
    monkeypatch.setattr(families.socket, "getaddrinfo", lambda *_, **__: both)
    with publisher("tcp://127.0.0.1:*") as publishing:
        assert reached(publishing, publishing.endpoint.replace("127.0.0.1", "localhost"))
