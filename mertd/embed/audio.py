"""The levels of a window, for the gate and the message, and its normalisation for the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR_DBFS = -200.0
"""Level that is reported for digital silence, instead of minus infinity."""

CLIP_LEVEL = 32767 / 32768
"""Magnitude from which a sample counts as clipped: full scale of a 16-bit converter."""


@dataclass(frozen=True)
class Levels:
    """Quality of one window, measured before normalisation. Full scale is a magnitude of 1."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: int  # samples at or beyond full scale
    zeros: int  # samples that are exactly 0: a dead or muted input has no others


def measure_levels(samples: NDArray[np.float32]) -> Levels:
    """Return the levels of one window, (samples,). Its levels in dBFS are finite exactly if all samples are."""
    with np.errstate(invalid="ignore"):  # of a NaN
        magnitude = np.abs(samples)
        power = float(np.square(samples, dtype=np.float64).mean())  # squares of float32 values cannot overflow float64
        return Levels(
            rms_dbfs=_decibels(power, 10),
            peak_dbfs=_decibels(float(magnitude.max()), 20),
            clipped=int(np.count_nonzero(magnitude >= CLIP_LEVEL)),
            zeros=int(np.count_nonzero(samples == 0)),
        )


def normalise(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (x - mean) / sqrt(var + 1e-7) over a window of finite values, (samples,): what MERT's feature extractor does.

    All of it is computed in float64, where no float32 value, however large, overflows.
    """
    centred = samples.astype(np.float64)
    centred -= centred.mean()
    centred /= np.sqrt(np.square(centred).mean() + 1e-7)
    return centred.astype(np.float32)


def _decibels(ratio: float, factor: int) -> float:
    if ratio == 0:
        return FLOOR_DBFS
    return max(factor * float(np.log10(ratio)), FLOOR_DBFS) if np.isfinite(ratio) else ratio
