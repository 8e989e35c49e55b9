"""The settings of the embed process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

POOLING = "mean"
"""How a hidden state's frames become one vector, as messages name it."""

NORMALISATION = "zero-mean-unit-variance"
"""What is done to a window before the network, as the fingerprint of a space names it."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model to load, and for which windows."""

    weights: str  # a path, or random:SEED
    layers: tuple[int, ...]
    backend: str  # a name, or auto
    window: int  # samples
    precision: str = "auto"  # or float32 or bfloat16
    threads: int | None = None  # that compute on the CPU; None: as many as this process may use
    check: bool = False  # run the self-check although it passed before on this machine
    excluded: Mapping[str, str] = field(default_factory=dict)  # backends that `auto` must not try -> reason
