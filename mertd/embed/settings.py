"""What the embed process is told at its start."""

from __future__ import annotations

from dataclasses import dataclass

POOLING = "mean"
NORMALISATION = "zero-mean-unit-variance"


@dataclass(frozen=True)
class ModelSettings:
    """Which model, for which windows. `window`: samples. `gate_dbfs`: quieter windows are not embedded."""

    weights: str
    layers: tuple[int, ...]
    backend: str
    window: int
    gate_dbfs: float
