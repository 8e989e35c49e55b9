"""The messages between the embed process and the supervisor, over one pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.embed.audio import Levels
from mertd.wire import Model


@dataclass(frozen=True)
class Trying:
    """The weights are loaded and `backend` is tried next. `others`: the backends that would be tried after it."""

    backend: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class ModelInfo:
    """Description of a loaded model, made once in the embed process and passed on as it is to embeddings and status."""

    model: Model  # the part that every embedding carries
    hidden: int  # numbers in one hidden state
    device: str
    agreement: float  # lowest cosine with the reference, over all layers, in the self-check at start-up
    rejected: Mapping[str, str]  # preferred backends that were not used -> reason
    threads: str = ""  # how many threads compute on the CPU, and why
    checked: str = ""  # when it passed its self-check, in words for the log

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that a status message carries under `model`."""
        model = self.model
        return {
            "name": model.name,
            "weights": model.weights,
            "trained": model.trained,
            "space": model.space,
            "backend": model.backend,
            "device": self.device,
            "precision": model.precision,
            "agreement": self.agreement,
            "rejected": dict(self.rejected),
        }


@dataclass(frozen=True)
class Ready:
    """The model is loaded, has passed its self-check and is compiled."""

    info: ModelInfo
    max_batch: int  # windows in the largest useful batch
    batches: int = 1  # that are worth being given at a time


@dataclass(frozen=True, slots=True)
class Token:
    """Identifies one request. It says whose request it is, so that an answer needs no search."""

    stream: str
    number: int  # counts the requests of the stream


@dataclass(frozen=True)
class Request:
    """Embed samples [start, end) of `token.stream`, unless they are quieter than `gate_dbfs`. The answer has the same token."""

    token: Token
    start: int
    end: int
    gate_dbfs: float


@dataclass(frozen=True)
class Copied:
    """The samples of these requests have been copied from the ring. `at_ns`: monotonic time after the last one."""

    tokens: tuple[Token, ...]
    at_ns: int


@dataclass(frozen=True, eq=False)
class Answer:
    """The result for one window.

    `vector`: float32 hidden states, (layers, hidden); None if the window was below the gate, or if it `failed`. `failed`: the
    window cannot be embedded, because its samples or its hidden states are not finite numbers.
    """

    token: Token
    levels: Levels
    vector: NDArray[np.float32] | None
    embed_ns: int
    failed: bool = False


@dataclass(frozen=True)
class Answers:
    """All answers to one batch of requests; batches are answered in the order in which they were given.

    `at_ns`: monotonic time at which the vectors were computed.
    """

    answers: tuple[Answer, ...]
    at_ns: int = 0


@dataclass(frozen=True)
class Alive:
    """Heartbeat, twice a second."""


@dataclass(frozen=True)
class Failed:
    """The process cannot start or continue, and ends."""

    message: str
    exit_code: int


FromEmbed = Trying | Ready | Copied | Answers | Alive | Failed
"""What the embed process sends."""

ToEmbed = tuple[Request, ...]
"""What it receives: one batch."""
