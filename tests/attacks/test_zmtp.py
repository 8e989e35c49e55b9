"""What is spoken by hand is understood by libzmq."""

from __future__ import annotations

import pytest
import zmq

from attacks.zmtp import COMMAND, MORE, Peer, frame, ping
from stream.servers import PATIENCE_S


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("size", [0, 255, 256, 70_000])
def test_messages_arrive(minor: int, size: int) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with Peer(port, minor=minor) as peer:
            peer.send(frame(b"", MORE) + frame(bytes(size)))
            assert router.poll(PATIENCE_S * 1000)
            _, *parts = router.recv_multipart()
            assert parts == [b"", bytes(size)]


def test_pings_are_answered() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with Peer(port) as peer:
            peer.send(ping(context=b"context"))
            peer.socket.settimeout(PATIENCE_S)
            assert peer.receive(1)[0] == COMMAND
            assert peer.receive(peer.receive(1)[0]) == b"\x04PONGcontext"
