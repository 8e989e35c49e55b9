"""What a memory holds, in numbers: for `mertd memory info`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from mertd.memory.memory import Memory
from mertd.memory.queries import holes
from mertd.memory.retention import folder_bytes
from mertd.memory.segment import KIND_TABLES, Segment, explained


def summary(folder: Path | None) -> dict[str, Any]:
    """Return the size, the spaces, streams, files and holes of a memory, as JSON has them. Raises `StoreError`."""
    memory = Memory(folder)
    spaces: dict[str, dict[str, Any]] = {}
    streams: dict[tuple[str, str], dict[str, Any]] = defaultdict(lambda: {"embeddings": 0, "events": 0, "runs": 0})
    files: list[dict[str, Any]] = []
    lacking: list[dict[str, Any]] = []
    boots: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for segment in memory.segments():
        span = segment.span_ns()
        counts = {table: segment.count(kind) for kind, table in KIND_TABLES.items()}
        files.append({"file": segment.path.name, "bytes": segment.bytes, **counts, "span_ns": span})
        _add_spaces(segment, spaces)
        for daemon, stream, boot, embeddings, events, first_ns, last_ns in _streams(segment):
            found = streams[daemon, stream]
            found["embeddings"] += embeddings
            found["events"] += events
            if embeddings or events:
                boots[daemon, stream].add(boot)
                found["first_ns"] = min(found.get("first_ns", first_ns), first_ns)
                found["last_ns"] = max(found.get("last_ns", last_ns), last_ns)
        for hole in holes(segment):
            lacking.append(
                {
                    "daemon": hole.source.daemon,
                    "stream": hole.source.stream,
                    "kind": hole.kind,
                    "first": hole.first,
                    "end": hole.end,
                    "reason": hole.reason,
                    "noted_ns": hole.noted_ns,
                }
            )
    for key, found in streams.items():
        found["runs"] = len(boots[key])
    return {
        "folder": str(memory.folder),
        "bytes": folder_bytes(memory.folder),
        "spaces": spaces,
        "streams": [{"daemon": daemon, "stream": stream, **found} for (daemon, stream), found in streams.items()],
        "files": files,
        "holes": lacking,
    }


def _add_spaces(segment: Segment, spaces: dict[str, dict[str, Any]]) -> None:
    with explained(segment.path):
        found = segment.db.execute(
            "SELECT space, name, layers, trained, size, rows, count(*) FROM embeddings JOIN forms ON forms.id = form"
            " GROUP BY space, name, layers, trained, size, rows"
        ).fetchall()
    for space, name, layers, trained, size, rows, count in found:
        entry = spaces.setdefault(
            space, {"model": name, "layers": layers, "trained": bool(trained), "size": size, "rows": rows, "embeddings": 0}
        )
        entry["embeddings"] += count


def _streams(segment: Segment) -> list[tuple[Any, ...]]:
    with explained(segment.path):
        return segment.db.execute(
            "SELECT daemon, name, boot, count(e.id), (SELECT count(*) FROM events WHERE source = sources.id),"
            " coalesce(min(start_ns), (SELECT min(time_ns) FROM events WHERE source = sources.id)),"
            " coalesce(max(start_ns), (SELECT max(time_ns) FROM events WHERE source = sources.id))"
            " FROM sources JOIN streams ON streams.id = stream LEFT JOIN embeddings e ON e.source = sources.id"
            " GROUP BY sources.id"
        ).fetchall()
