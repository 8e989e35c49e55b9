"""What the embed process and the supervisor say to each other, over one pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mertd.embed.audio import Levels


@dataclass(frozen=True)
class Trying:
    """The weights are loaded, and a backend is about to be. `others`: what would be tried next."""

    backend: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    """The model is loaded, has passed its self-check and is warm."""

    model: str
    weights: str  # digest
    trained: bool
    space: str
    hidden: int
    backend: str
    precision: str
    device: str
    max_batch: int
    agreement: float  # worst cosine with the reference
    rejected: Mapping[str, str]  # better backends and why they were passed over


@dataclass(frozen=True)
class Request:
    """Embed samples [start, end) of a stream, unless they are quieter than `gate_dbfs`; `token` comes back with the answer."""

    token: int
    stream: str
    start: int
    end: int
    gate_dbfs: float


@dataclass(frozen=True)
class Copied:
    """The samples of these requests are out of the ring. `at_ns`: monotonic time after the last one."""

    tokens: tuple[int, ...]
    at_ns: int


@dataclass(frozen=True)
class Answer:
    """`vector`: (layers, hidden) little-endian float32 bytes, or None if the window was below the gate."""

    token: int
    levels: Levels
    vector: bytes | None
    embed_ns: int


@dataclass(frozen=True)
class Answers:
    """All answers to one batch of requests. `at_ns`: monotonic time at which the vectors were there."""

    answers: tuple[Answer, ...]
    at_ns: int = 0


@dataclass(frozen=True)
class Alive:
    """Heartbeat, twice a second."""


@dataclass(frozen=True)
class Failed:
    """The process cannot start or go on."""

    message: str
    exit_code: int


FromEmbed = Trying | Ready | Copied | Answers | Alive | Failed
ToEmbed = tuple[Request, ...]
