"""What the daemon binds, in a thread of the test, and sockets that a well-behaved client would not open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import zmq
import zmq.asyncio

from mertd.stream.server.control_server import ControlServer, Handler
from mertd.stream.server.publisher import Publisher

ANY_PORT = "tcp://127.0.0.1:*"
PATIENCE_S = 30.0


@contextmanager
def control(handler: Handler, endpoint: str = ANY_PORT) -> Iterator[str]:
    """A control server with an event loop of its own. Gives its endpoint."""
    bound: SimpleQueue[str] = SimpleQueue()
    stop: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        over = asyncio.Event()
        with zmq.asyncio.Context() as context:
            server = ControlServer(context, endpoint, handler)
            task = asyncio.create_task(server.serve())
            stop.put((asyncio.get_running_loop(), over))
            bound.put(server.endpoint)
            await over.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield bound.get(timeout=PATIENCE_S)
    finally:
        loop, over = stop.get(timeout=PATIENCE_S)
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Something that is no mertd, and answers every question with the same bytes."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            if socket.poll(PATIENCE_S * 1000):
                socket.recv()
                socket.send(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            thread.join(PATIENCE_S)


@contextmanager
def publisher(endpoint: str = ANY_PORT) -> Iterator[Publisher]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    publishing = Publisher(context, endpoint)
    try:
        yield publishing
    finally:
        publishing.close()
        context.term()


def subscribed(publishing: Publisher, topics: int = 1) -> None:
    """Wait until so many new topics have been subscribed to: from then on their messages are sent."""
    socket = publishing._bound.socket
    for _ in range(topics):
        assert socket.poll(PATIENCE_S * 1000), "nobody subscribes"
        assert socket.recv()[0] == 1
