"""The routes of the server, and the gate before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from mertd.view.access import Access
from mertd.view.feed import MAX_VIEWERS, Feed
from mertd.view.guard import Guard
from mertd.view.listener import Listener
from mertd.view.memory_routes import MemoryRoutes
from mertd.view.site_files import site_routes

STREAM_HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # a reverse proxy must not collect events before it passes them on
}
"""Headers of a stream of events."""


def all_routes(listener: Listener, memory: MemoryRoutes) -> list[BaseRoute]:
    """Return what the server answers. Other parts add their routes here."""
    return [
        *site_routes(),
        *live_routes(listener.feed),
        *memory.routes,
    ]


def make_app(access: Access, routes: Sequence[BaseRoute]) -> ASGIApp:
    """Return the application, as an ASGI server runs it."""
    return Guard(Starlette(routes=[*routes]), access)


def live_routes(feed: Feed) -> list[BaseRoute]:
    """Return the route of what happens, as server-sent events."""

    async def live(request: Request) -> Response:
        if feed.viewers >= MAX_VIEWERS:
            return PlainTextResponse(f"mertd: {MAX_VIEWERS} browsers are connected already\n", 503, {"Retry-After": "10"})
        last = request.query_params.get("after") or request.headers.get("last-event-id")
        return StreamingResponse(_flushed(feed.follow(last)), media_type="text/event-stream", headers=STREAM_HEADERS)

    return [Route("/live", live, methods=["GET"])]


async def _flushed(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        if part:
            yield part
