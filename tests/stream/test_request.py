"""The asking end of the control socket, against servers that lose or repeat what they are asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from mertd.errors import EndpointError
from mertd.stream.request import ask

OK = msgpack.packb({"ok": True, "messages": []})


class Forgetful:
    """A server that loses its first requests."""

    def __init__(self, lost: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._lost = lost
        self.asked: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            if self._socket.poll(20):
                *route, request = self._socket.recv_multipart()
                self.asked.append(msgpack.unpackb(request)["request"])
                if len(self.asked) > self._lost:
                    self._socket.send_multipart([*route, OK])

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._context.destroy(0)


@pytest.fixture
def forgetful(request: pytest.FixtureRequest) -> Iterator[Forgetful]:
    server = Forgetful(request.param)
    yield server
    server.close()


@pytest.mark.parametrize("forgetful", [0, 1, 2], indirect=True)
@pytest.mark.parametrize("request_name", ["status", "history"])
def test_a_request_that_changes_nothing_is_sent_again(forgetful: Forgetful, request_name: str) -> None:
    assert ask(forgetful.endpoint, {"request": request_name}, timeout_s=60) == []
    assert forgetful.asked == [request_name] * len(forgetful.asked)


@pytest.mark.parametrize("forgetful", [9], indirect=True)
@pytest.mark.parametrize("request_name", ["now", "pause", "set", "shutdown"])
def test_any_other_is_sent_once(forgetful: Forgetful, request_name: str) -> None:
    with pytest.raises(EndpointError, match="no daemon answers"):
        ask(forgetful.endpoint, {"request": request_name}, timeout_s=0.7)
    assert forgetful.asked == [request_name]


@pytest.mark.parametrize("forgetful", [9], indirect=True)
def test_it_gives_up_after_the_timeout(forgetful: Forgetful) -> None:
    with pytest.raises(EndpointError, match="no daemon answers"):
        ask(forgetful.endpoint, {"request": "status"}, timeout_s=0.1)
