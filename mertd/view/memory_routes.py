"""What the page asks of the past: `/remembered`, `/span`, `/similar`, and `/lately` of what was heard since it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mertd.errors import MertdError, StoreError, UsageError
from mertd.view.answers import Answers, BusyError
from mertd.view.board import short
from mertd.view.live_novelty import LiveNovelty
from mertd.view.remembered import Remembered

MAX_DIGITS = 15
"""Digits of a time in milliseconds."""


class MemoryRoutes:
    """The routes, and the memory behind them; it may appear later, or never."""

    def __init__(self, folder: Path, novelty: LiveNovelty) -> None:
        self._folder, self._novelty = folder, novelty
        self._remembered: dict[str, Remembered] = {}
        # A search may build an index for minutes; spans must not wait for it.
        self._lanes = {lane: Answers(lane) for lane in ("spans", "search")}

    @property
    def routes(self) -> list[Route]:
        paths = {"/remembered": self._streams, "/span": self._span, "/similar": self._similar, "/lately": self._lately}
        return [Route(path, answer, methods=["GET"]) for path, answer in paths.items()]

    async def prepare(self) -> None:
        """Open the memory before a browser asks for it, and find what stays the same all day."""
        with contextlib.suppress(MertdError):  # there may be no memory yet; who asks is told
            await self._compute("spans", ("prepare",), lambda memory: memory.prepare())

    async def _streams(self, _request: Request) -> Response:
        return await self._answer("spans", ("streams",), lambda memory: {"streams": memory.streams()})

    async def _span(self, request: Request) -> Response:
        try:
            key = request.query_params.get("key", "")
            since, until, midnight = (_milliseconds(request, name) for name in ("since", "until", "midnight"))
        except UsageError as error:
            return _refused(error, 400)
        question = ("span", key, since, until, midnight)
        return await self._answer("spans", question, lambda memory: memory.span(key, since, until, midnight))

    async def _similar(self, request: Request) -> Response:
        try:
            key = request.query_params.get("key", "")
            at = _milliseconds(request, "at") if "at" in request.query_params else None
        except UsageError as error:
            return _refused(error, 400)
        return await self._answer("search", ("similar", key, at), lambda memory: memory.similar(key, at))

    async def _lately(self, request: Request) -> Response:
        return JSONResponse(self._novelty.lately(request.query_params.get("key", "")))

    async def _answer(self, lane: str, question: tuple[Any, ...], ask: Callable[[Remembered], Any]) -> Response:
        try:
            return Response(await self._compute(lane, question, ask), media_type="application/json")
        except BusyError as error:
            return _refused(error, 503)
        except StoreError as error:  # not a fault of who asks: there may be no memory yet
            return JSONResponse({"missing": short(str(error))})
        except MertdError as error:
            return _refused(error, 400)

    async def _compute(self, lane: str, question: tuple[Any, ...], ask: Callable[[Remembered], Any]) -> bytes:
        def compute() -> Any:
            if lane not in self._remembered:
                self._remembered[lane] = Remembered(self._folder)
            return ask(self._remembered[lane])

        return await self._lanes[lane].get(question, compute)


def _milliseconds(request: Request, name: str) -> int:
    """Return a time of the query. Raises `UsageError`."""
    text = request.query_params.get(name, "")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS):
        raise UsageError(f"{name}: expected milliseconds since 1970")
    return int(text)


def _refused(error: MertdError, status: int) -> Response:
    return JSONResponse({"problem": short(str(error))}, status)
