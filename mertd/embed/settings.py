"""What the embed process is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

POOLING = "mean"
NORMALISATION = "zero-mean-unit-variance"


@dataclass(frozen=True)
class ModelSettings:
    """Which model, for which windows. `window`: samples.

    `excluded`: backends that `auto` must not try again, and why.
    """

    weights: str
    layers: tuple[int, ...]
    backend: str
    window: int
    excluded: Mapping[str, str] = field(default_factory=dict)
