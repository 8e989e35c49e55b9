"""Changes, returns and similar moments as the page gets them. Times are milliseconds since 1970.

Rules of this file: pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mertd.memory.similarity.moments import Moment
from mertd.view.board import finite, ms, short


def mark_facts(event: str, time_ns: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a change or a return. `facts`: what its event says of it, which may be anything."""
    number = facts.get("similarity" if event == "return" else "strength")
    like = facts.get("like")
    bound_ns = facts.get("bound_ns")
    return {
        "event": event,
        "ms": ms(time_ns),
        "number": finite(float(number)) if isinstance(number, int | float) else None,
        "bound_ms": ms(bound_ns) if isinstance(bound_ns, int) else None,
        "like_ms": [ms(like["start_ns"]), ms(like["end_ns"])] if isinstance(like, dict) and _has_times(like) else None,
    }


def _has_times(like: dict[str, Any]) -> bool:
    return all(isinstance(like.get(name), int) for name in ("start_ns", "end_ns"))


def moment_facts(moment: Moment, owner: tuple[str, str]) -> dict[str, Any]:
    """Return what the page shows of a similar moment. `owner`: its daemon and stream."""
    daemon, stream = owner
    return {
        "daemon": short(daemon),
        "stream": short(stream),
        "start_ms": ms(moment.start_ns),
        "end_ms": ms(moment.end_ns),
        "best_ms": (ms(moment.best_start_ns) + ms(moment.best_end_ns)) // 2,
        "similarity": finite(moment.similarity),
        "percentile": finite(moment.percentile) if moment.percentile is not None else None,
    }
