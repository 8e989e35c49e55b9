"""What is done to a window before the network hears it: measured, perhaps gated, then normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR_DBFS = -200.0
"""Level reported for digital silence, in place of minus infinity."""

CLIP_LEVEL = 32767 / 32768
"""Magnitude from which a sample counts as clipped: full scale of a 16-bit converter."""


@dataclass(frozen=True)
class Levels:
    """Quality of one window, measured before normalisation. Full scale is a magnitude of 1."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: int  # samples at or beyond full scale
    zeros: int  # samples that are exactly 0: a dead or muted input gives nothing else


def measure(samples: NDArray[np.float32]) -> Levels:
    """Levels of one window, (samples,)."""
    magnitude = np.abs(samples)
    power = float(np.square(samples, dtype=np.float64).mean())
    return Levels(
        rms_dbfs=_decibels(power, 10),
        peak_dbfs=_decibels(float(magnitude.max()), 20),
        clipped=int(np.count_nonzero(magnitude >= CLIP_LEVEL)),
        zeros=int(np.count_nonzero(samples == 0)),
    )


def normalise(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(x - mean) / sqrt(var + 1e-7) over a window, (samples,): what MERT's feature extractor does."""
    mean = samples.mean(dtype=np.float64)
    centred = samples - mean
    return np.asarray(centred / np.sqrt(np.square(centred).mean() + 1e-7), np.float32)


def _decibels(ratio: float, factor: int) -> float:
    return max(factor * float(np.log10(ratio)), FLOOR_DBFS) if ratio > 0 else FLOOR_DBFS
