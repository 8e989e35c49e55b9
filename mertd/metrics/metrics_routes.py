"""`/metrics`, `/healthz` and `/readyz`, as routes for the server of `mertd view`, which decides who may ask."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mertd.metrics.collector import PHASES, DaemonCollector, is_word
from mertd.metrics.memory_space import memory_space
from mertd.metrics.observed import STALE_S, Observed
from mertd.text import printable
from mertd.vocabulary import Phase

READY_PHASES = (Phase.RUNNING, Phase.REPLAYING)
"""Phases in which a daemon publishes."""


def metrics_routes(observed: Observed, memory: Path | None = None) -> list[Route]:
    """Return the routes. `observed`: is given all that daemons publish. `memory`: directory of the memory, or none.

    The handlers are ordinary functions, which Starlette runs in threads of their own: a scrape does not delay the page.
    """
    registry = CollectorRegistry()
    registry.register(DaemonCollector(observed, partial(memory_space, memory) if memory is not None else dict))
    ProcessCollector(registry=registry)

    def metrics(request: Request) -> Response:
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # the library compares versions that are no numbers with numbers
            encode, content_type = choose_encoder("")
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    def healthz(_request: Request) -> Response:
        return _answer("ok", 200)

    def readyz(_request: Request) -> Response:
        problem = unready(observed)
        return _answer(problem or "ok", 503 if problem else 200)

    return [Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]


def unready(observed: Observed) -> str:
    """Return why something cannot be seen of the daemons, a line each; nothing if all publish."""
    problems = [
        f"no status from {printable(endpoint)} in the last {STALE_S:g} s; is the daemon running?"
        for endpoint, last in observed.endpoints().items()
        if not last.is_fresh
    ]
    for name, record in observed.present().items():
        phase = record.status.phase
        if phase not in READY_PHASES:
            problems.append(f"{printable(name)} is {phase if is_word(phase, PHASES) else 'in an unknown phase'}")
    return "\n".join(problems)


def _answer(text: str, code: int) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=code, headers={"Cache-Control": "no-store"})
