"""A daemon's two sockets behind keys, in a thread of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import zmq
import zmq.asyncio

from mertd.errors import WireError
from mertd.stream.keyring import Keyring
from mertd.stream.server.authenticator import Authenticator
from mertd.stream.server.connections import Connections
from mertd.stream.server.control_server import ControlServer
from mertd.stream.server.history import Page
from mertd.stream.server.publisher import Publisher
from mertd.wire import encode
from messages import embedding, status
from stream.servers import ANY_PORT, PATIENCE_S

BEAT_S = 0.02


@dataclass
class Guarded:
    """What is bound. `rejected`: by reason."""

    ring: Keyring
    publish: str
    control: str
    authenticator: Authenticator
    asked: list[str] = field(default_factory=list)

    @property
    def rejected(self) -> dict[str, int]:
        return dict(self.authenticator.rejections.counts)


@contextmanager
def guarded(ring: Keyring, publish: str = ANY_PORT, control: str = ANY_PORT) -> Iterator[Guarded]:
    """Publishes embeddings of `room` without end, and answers `status`, `history` and, harmlessly, `shutdown`."""
    ready = SimpleQueue[tuple[Guarded, asyncio.AbstractEventLoop, asyncio.Event] | Exception]()

    async def serve() -> None:
        over = asyncio.Event()
        with zmq.asyncio.Context() as context:
            authenticator = Authenticator(context, ring)
            blocking: zmq.Context[zmq.Socket[bytes]] = zmq.Context(context)
            connections = Connections(blocking, authenticator.handshake_failed)
            publisher = Publisher(blocking, publish, authenticator, connections)

            def answer(request: dict[str, Any]) -> Page:
                found.asked.append(request["request"])
                if request["request"] == "history":
                    return publisher.history.between("embedding", "room", request["first"], request["end"])
                if request["request"] in ("status", "shutdown"):
                    return Page([encode(status())], False)
                raise WireError("no such request")

            server = ControlServer(blocking, control, answer, authenticator, connections)
            connections.start()
            found = Guarded(ring, publisher.endpoint, server.endpoint, authenticator)

            async def beat() -> None:
                seq = 0
                while True:
                    publisher.send(embedding(seq))
                    seq += 1
                    await asyncio.sleep(BEAT_S)

            work = [authenticator.serve(), authenticator.watch_list(connections), publisher.serve(), server.serve(), beat()]
            tasks = [asyncio.create_task(one) for one in work]
            ready.put((found, asyncio.get_running_loop(), over))
            await over.wait()
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            server.close()
            publisher.close()
            connections.close()
            authenticator.close()
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended

    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(serve())
        except Exception as error:  # noqa: BLE001 - raised again by the test
            failures.append(error)
            ready.put(RuntimeError("it did not start"))

    thread = threading.Thread(target=run)
    thread.start()
    started = ready.get(timeout=PATIENCE_S)
    try:
        if isinstance(started, Exception):
            raise started
        yield started[0]
    finally:
        if not isinstance(started, Exception):
            started[1].call_soon_threadsafe(started[2].set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert not failures, failures
