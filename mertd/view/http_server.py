"""The process of the page: a subscriber and an HTTP server in one event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import threadpoolctl
import uvicorn
from starlette.types import ASGIApp

from mertd.memory.default_folder import chosen_folder
from mertd.metrics.metrics_routes import metrics_routes
from mertd.metrics.observed import Observed
from mertd.view.access import access_for
from mertd.view.listener import Daemons, Listener
from mertd.view.live_novelty import LiveNovelty
from mertd.view.memory_routes import MemoryRoutes
from mertd.view.web_address import WebAddress, listen
from mertd.view.web_app import all_routes, make_app

STOP_S = 1
"""Seconds that open connections have to end."""

MAX_CONNECTIONS = 1_024
"""Connections of browsers; further ones are answered with 503."""

NICE = 2
"""How much more the processors are for others, such as the daemon on the same machine."""

HEADERS_S = 10
"""Seconds for which a connection without a request stays open."""


@dataclass(frozen=True)
class ViewOptions:
    """What `mertd view` is told."""

    address: WebAddress
    daemons: Daemons
    names: tuple[str, ...] = ()  # by which browsers may call it, besides those that follow from the address
    memory: str | None = None  # directory; None for the default one
    token: str | None = None  # for addresses that other machines reach; made if there is none


class QuietServer(uvicorn.Server):
    """uvicorn's server, which leaves signals to those who run it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(options: ViewOptions, announce: Callable[[str], object], stopping: asyncio.Event) -> None:
    """Serve the page until `stopping` is set. `announce`: is given what to open in a browser.

    Raises `EndpointError` if the address is in use, `HomeUnknownError` if the memory is to be looked for in a home directory
    that is not known.
    """
    socket, address = listen(options.address)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    with socket:
        access = access_for(address, options.names, gethostname(), options.token or secrets.token_urlsafe(32))
        novelty = LiveNovelty()
        listener = Listener(options.daemons, lambda: {"heard": novelty.heard()})
        observed = Observed(options.daemons.endpoints)
        listener.on_window(novelty.take)
        listener.on_message(observed.note)
        _leave_processors()
        folder = chosen_folder(options.memory)
        memory = MemoryRoutes(folder, novelty)
        routes = [*all_routes(listener, memory), *metrics_routes(observed, folder)]
        server = QuietServer(_configuration(make_app(access, routes)))
        announce(address.url + (f"?token={access.token}" if access.token else ""))
        tasks = [
            asyncio.create_task(listener.receive()),
            asyncio.create_task(listener.tell()),
            asyncio.create_task(server.serve([socket])),
            asyncio.create_task(stopping.wait()),
        ]
        prepared = asyncio.create_task(_prepare(memory))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            prepared.cancel()
            listener.feed.close()
            server.should_exit = True
            for task in (tasks[0], tasks[1], tasks[3]):
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error


async def _prepare(memory: MemoryRoutes) -> None:
    """Do what the first browser would otherwise wait for."""
    await memory.prepare()
    keep_what_is_loaded()


def keep_what_is_loaded() -> None:
    """Let the garbage collector ignore what exists now: looking through all of it takes 20 ms, for which scrapes would wait."""
    gc.collect()
    gc.freeze()


def _leave_processors() -> None:
    """Compute in one thread: the daemon's model has the other processors."""
    with contextlib.suppress(OSError):
        Path.cwd()  # raises if the directory was deleted, which threadpoolctl would print as a traceback
        threadpoolctl.threadpool_limits(1)


def _configuration(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S,
        timeout_keep_alive=HEADERS_S,
        limit_concurrency=MAX_CONNECTIONS,
    )


def stop_on_signals(stopping: asyncio.Event) -> None:
    """Stop when the user or the system says so. Called in a running event loop, in the main thread."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
