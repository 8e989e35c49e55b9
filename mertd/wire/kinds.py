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

REPLAY_MARK = "replay:"
"""What stands before the name of the daemon in all messages of a replay; no daemon's own name can have a colon."""


@dataclass(frozen=True)
class Span:
    """Samples [start, end)."""

    start: int  # index of the first sample
    end: int  # index after the last sample
    rate: int  # Hz


@dataclass(frozen=True)
class Time:
    """When the samples of a window were captured."""

    start_ns: int
    end_ns: int
    error_ns: int  # bound of the error of both, as far as readings of the clock reveal it
    drift_ppm: float  # of the source's clock against the system's


@dataclass(frozen=True)
class Audio:
    """Levels of a window before normalisation, and counts of its samples."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: int  # at full scale
    missing: int  # lost before they were captured, and replaced by zeros
    zeros: int  # exactly zero


@dataclass(frozen=True)
class Model:
    """The model that made a vector. Vectors may be compared only if their `space` is equal."""

    name: str
    space: str  # fingerprint of model, weights, layers, pooling, window length and normalisation
    weights: str  # sha256 of the tensors, in hexadecimal
    trained: bool  # false: seeded random weights, whose vectors mean nothing
    layers: tuple[int, ...]  # numbers of the hidden states
    pooling: str
    backend: str
    precision: str


@dataclass(frozen=True)
class Latency:
    """Nanoseconds from the report of a window's last sample to its publication."""

    wait: int  # until the model began
    embed: int  # in the model
    total: int  # both, and the way to the publisher


@dataclass(frozen=True, eq=False)
class Embedding:
    """The hidden states of one window."""

    boot: bytes  # 16 random bytes of this run of the daemon
    daemon: str  # name
    stream: str  # name
    epoch: int
    seq: int
    window: Span
    time: Time
    audio: Audio
    model: Model
    vector: NDArray[np.float32]  # (layers, hidden size)
    latency_ns: Latency
    skipped: int = 0  # windows skipped since the last embedding of this stream
    replay: bool = False  # true if it comes from the history
    kind: Literal["embedding"] = "embedding"

    @property
    def topic(self) -> bytes:
        return f"embedding/{self.stream}/".encode()


@dataclass(frozen=True)
class Event:
    """Something that happened at a sample of a stream's timeline."""

    boot: bytes  # 16 random bytes of this run of the daemon
    daemon: str  # name
    stream: str  # name
    epoch: int
    seq: int
    event: str  # an `EventName`
    index: int  # of the sample
    time_ns: int
    detail: Mapping[str, Any] = field(default_factory=dict)  # depends on `event`
    replay: bool = False  # true if it comes from the history
    kind: Literal["event"] = "event"

    @property
    def topic(self) -> bytes:
        return f"event/{self.stream}/".encode()


@dataclass(frozen=True)
class Status:
    """Heartbeat, once a second: counters of the daemon, of each stream and of each process."""

    boot: bytes  # 16 random bytes of this run of the daemon
    daemon: str  # name
    time_ns: int
    uptime_ns: int
    version: str  # of mertd
    phase: str  # a `Phase`
    model: Mapping[str, Any]  # empty until a model is ready
    streams: Mapping[str, Any]  # by name
    processes: Mapping[str, Any]  # by name
    published: int  # messages sent
    dropped: int  # how often the queue of a subscriber was full; it sees in `seq` how many messages it missed
    kind: Literal["status"] = "status"

    @property
    def topic(self) -> bytes:
        return b"status/"


Message = Embedding | Event | Status
