"""A publisher for tests of what reads from a bus: puts messages into a JetStream stream of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Iterable
from typing import Any, Self, TypeVar

import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig

from bus.cluster import Cluster
from command_process import PATIENCE_S
from mertd.bus.message_id import HEADER, id_of
from mertd.bus.subjects import Subject
from mertd.wire import Embedding, Event, encode

T = TypeVar("T")
_numbers = itertools.count()


class Publisher:
    """Makes a stream for one test, and deletes it at the end. `name`: of the stream."""

    def __init__(self, bus: Cluster, url: str = "", name: str = "", **config: Any) -> None:
        """`url`: with a user's name and password. `config`: of the stream, beyond its name and subjects."""
        self.bus, self.name = bus, name or f"test-{os.getpid()}-{next(_numbers)}"
        self._url = url or bus.url()
        self._config = config

    def __enter__(self) -> Self:
        self.make()
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    def make(self, **config: Any) -> None:
        # One server may have one stream of a subject, so each test takes it from the one before.
        config = {"name": self.name, "subjects": ["mertd.>"], **self._config, **config}
        self.do(lambda client: client.jetstream().add_stream(StreamConfig(**config)))

    def delete(self) -> None:
        self.do(lambda c: c.jetstream().delete_stream(self.name))

    def consumers(self) -> list[str]:
        """Return the names of the stream's consumers."""
        return [one.name for one in self.do(lambda client: client.jetstream().consumers_info(self.name))]

    def publish(self, *messages: Embedding | Event, with_id: bool = True) -> None:
        """Publish what a relay would, with its identity, or without."""
        self.put(
            (str(Subject(m.daemon, m.stream, m.kind)), encode(m)[1], {HEADER: str(id_of(m))} if with_id else None)
            for m in messages
        )

    def put(self, what: Iterable[tuple[str, bytes, dict[str, str] | None]]) -> None:
        """Publish any payloads under any subjects."""

        async def work(client: Client) -> None:
            for subject, payload, headers in what:
                await client.jetstream().publish(subject, payload, headers=headers)

        self.do(work)

    def do(self, work: Any) -> Any:
        """Call a function with a client, and return what comes of it."""

        async def run() -> Any:
            async with asyncio.timeout(PATIENCE_S):
                client = await nats.connect(self._url)
                try:
                    return await work(client)
                finally:
                    await client.close()

        return run_here(run())


def run_here(work: Awaitable[T]) -> T:
    async def whole() -> T:
        return await work

    return asyncio.run(whole())
