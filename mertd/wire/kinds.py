"""The three kinds of message, and what they are made of.

Times are Unix nanoseconds, indexes and counts are samples at `rate`. `seq` counts per (boot, stream) without holes, embeddings
and events each on their own: a hole at the receiver is a lost message. `daemon` stays the same when a daemon is started again,
`boot` does not: two streams are the same one if `daemon` and `stream` are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Span:
    """Which samples: [start, end) at `rate` Hz."""

    start: int
    end: int
    rate: int


@dataclass(frozen=True)
class Time:
    """When they were heard. `error_ns` bounds how far readings of the clock stray; `drift_ppm` is the source's drift."""

    start_ns: int
    end_ns: int
    error_ns: int
    drift_ppm: float


@dataclass(frozen=True)
class Audio:
    """What the window sounded like, before normalisation; counts are samples within the window."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: int
    missing: int  # lost on the way in and filled with zeros
    zeros: int  # exactly zero


@dataclass(frozen=True)
class Model:
    """What made the vector. Vectors may be compared only if their `space` is equal."""

    name: str
    space: str
    weights: str  # sha256 of the tensors, hexadecimal
    trained: bool  # false: seeded random weights, good for plumbing only
    layers: tuple[int, ...]
    pooling: str
    backend: str
    precision: str


@dataclass(frozen=True)
class Latency:
    """From the window's last sample committed to publication: `total` = `wait` for the model + `embed`, and hand-over."""

    wait: int
    embed: int
    total: int


@dataclass(frozen=True, eq=False)
class Embedding:
    """The hidden states of one window. `vector`: (layers, 768) float32."""

    boot: bytes
    daemon: str
    stream: str
    epoch: int
    seq: int
    window: Span
    time: Time
    audio: Audio
    model: Model
    vector: NDArray[np.float32]
    latency_ns: Latency
    skipped: int = 0  # windows lost since the last embedding of this stream
    replay: bool = False
    kind: Literal["embedding"] = "embedding"

    @property
    def topic(self) -> bytes:
        return f"embedding/{self.stream}/".encode()


@dataclass(frozen=True)
class Event:
    """Something happened at sample `index` of a stream's timeline; `detail` depends on `event`."""

    boot: bytes
    daemon: str
    stream: str
    epoch: int
    seq: int
    event: str
    index: int
    time_ns: int
    detail: Mapping[str, Any] = field(default_factory=dict)
    replay: bool = False
    kind: Literal["event"] = "event"

    @property
    def topic(self) -> bytes:
        return f"event/{self.stream}/".encode()


@dataclass(frozen=True)
class Status:
    """Heartbeat, once a second: counters of the daemon, of each stream and of each process."""

    boot: bytes
    daemon: str
    time_ns: int
    uptime_ns: int
    version: str
    phase: str  # starting, running, stopping
    model: Mapping[str, Any]
    streams: Mapping[str, Any]
    processes: Mapping[str, Any]
    published: int
    dropped: int  # messages at which some subscriber's queue ran full; it sees in `seq` how many it missed
    kind: Literal["status"] = "status"

    @property
    def topic(self) -> bytes:
        return b"status/"


Message = Embedding | Event | Status
