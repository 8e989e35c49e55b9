"""Messages for tests of the wire and of what carries it: complete, and alike except for what a test asks for."""

from __future__ import annotations

from typing import Any

import numpy as np

from mertd.wire import Audio, Embedding, Event, Latency, Model, Span, Status, Time

BOOT, DAEMON = bytes(range(16)), "studio"
MODEL = Model("MERT-v1-95M", "0123456789abcdef", "ab" * 32, False, (6,), "mean", "onnx", "float32")


def embedding(seq: int = 0, stream: str = "room", **changes: Any) -> Embedding:
    """The window that starts `seq` hops of 5 s into a stream."""
    start = seq * 120_000
    facts: dict[str, Any] = {
        "boot": BOOT,
        "daemon": DAEMON,
        "stream": stream,
        "epoch": 0,
        "seq": seq,
        "window": Span(start, start + 720_000, 24_000),
        "time": Time(seq * 5_000_000_000, (seq * 5 + 30) * 1_000_000_000, 2_000_000, 12.5),
        "audio": Audio(-20.5, -3.25, 0, 0, 17),
        "model": MODEL,
        "vector": np.arange(768, dtype=np.float32)[None] + seq,
        "latency_ns": Latency(1, 2, 3),
    }
    return Embedding(**{**facts, **changes})


def event(seq: int = 0, stream: str = "room", **changes: Any) -> Event:
    facts: dict[str, Any] = {
        "boot": BOOT,
        "daemon": DAEMON,
        "stream": stream,
        "epoch": 0,
        "seq": seq,
        "event": "skipped",
        "index": 120_000 * seq,
        "time_ns": 5_000_000_000 * seq + 1,
        "detail": {"windows": 2, "reason": "late"},
    }
    return Event(**{**facts, **changes})


def status(**changes: Any) -> Status:
    facts: dict[str, Any] = {
        "boot": BOOT,
        "daemon": DAEMON,
        "time_ns": 1,
        "uptime_ns": 2,
        "version": "0.1.0",
        "phase": "running",
        "model": {"name": "MERT-tiny"},
        "streams": {"room": {"due": 3}},
        "processes": {"embed": {"pid": 7}},
        "published": 4,
        "dropped": 0,
    }
    return Status(**{**facts, **changes})
