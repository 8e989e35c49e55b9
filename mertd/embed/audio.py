"""The levels of a window, for the gate and the message, and its normalisation for the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR_DBFS = -200.0
"""Level that is reported for digital silence, instead of minus infinity."""

CLIP_LEVEL = 32767 / 32768
"""Magnitude from which a sample counts as clipped: full scale of a 16-bit converter."""

EPSILON = 1e-7
"""What the feature extractor adds to the variance."""

BLOCK = 1_000
"""Samples that are summed in float32."""


@dataclass(frozen=True)
class Levels:
    """Quality of one window, measured before normalisation. Full scale is a magnitude of 1."""

    rms_dbfs: float
    peak_dbfs: float
    clipped: int  # samples at or beyond full scale
    zeros: int  # samples that are exactly 0: a dead or muted input has no others


@dataclass(frozen=True, eq=False)
class PreparedWindow:
    """A window that was measured and made ready for the network."""

    levels: Levels
    is_silent: bool  # below the gate
    samples: NDArray[np.float32] | None  # normalised; None if it is silent, or has samples that are not finite


def prepare(samples: NDArray[np.float32], gate_dbfs: float) -> PreparedWindow:
    """Measure a window, (samples,), and make it ready for the network unless it is quieter than `gate_dbfs`."""
    levels = measure_levels(samples)
    is_silent = levels.rms_dbfs < gate_dbfs  # no gate applies to what is not finite
    is_fit = not is_silent and math.isfinite(levels.rms_dbfs)
    return PreparedWindow(levels, is_silent, normalise(samples) if is_fit else None)


def measure_levels(samples: NDArray[np.float32]) -> Levels:
    """Return the levels of one window, (samples,). Its levels in dBFS are finite exactly if all samples are."""
    peak = max(float(samples.max()), -float(samples.min()))  # of a NaN, both are one
    clipped = np.count_nonzero(samples >= CLIP_LEVEL) + np.count_nonzero(samples <= -CLIP_LEVEL) if peak >= CLIP_LEVEL else 0
    return Levels(
        rms_dbfs=_decibels(_energy(samples) / len(samples), 10),
        peak_dbfs=_decibels(peak, 20),
        clipped=int(clipped),
        zeros=int(np.count_nonzero(samples == 0)),
    )


def normalise(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (x - mean) / sqrt(var + 1e-7) over a window of finite values, (samples,): what MERT's feature extractor does.

    The result is as good as if all of it was computed in float64.
    """
    mean = float(np.add.reduce(samples, dtype=np.float64)) / len(samples)
    high = np.float32(mean)
    with np.errstate(over="ignore", invalid="ignore"):
        # The mean as two numbers: where it is far above the sound, what one of them leaves is a mean of its own.
        out = samples - high
        out -= np.float32(mean - float(high))
        energy = _energy(out)
    if not math.isfinite(energy):  # a difference of the largest floats is not one
        centred = samples.astype(np.float64) - mean
        out[:] = centred / np.sqrt(np.square(centred).mean() + EPSILON)
        return out
    out *= np.float32(1 / math.sqrt(energy / len(samples) + EPSILON))
    return out


def _energy(samples: NDArray[np.float32]) -> float:
    """Return the sum of squares, (samples,), good for six digits; it is finite exactly if all samples are.

    Blocks are summed in float32, and their sums in float64: four times as fast as float64 alone.
    """
    whole = len(samples) // BLOCK * BLOCK
    with np.errstate(all="ignore"):  # of a NaN, and what Accelerate says of products that are right (numpy #28687)
        blocks = samples[:whole].reshape(-1, BLOCK)
        energy = float(np.vecdot(blocks, blocks).sum(dtype=np.float64))
        energy += float(np.square(samples[whole:], dtype=np.float64).sum())
        if not math.isfinite(energy):  # squares of float32 values cannot overflow float64
            energy = float(np.square(samples, dtype=np.float64).sum())
    return energy


def _decibels(ratio: float, factor: int) -> float:
    if ratio == 0:
        return FLOOR_DBFS
    return max(factor * float(np.log10(ratio)), FLOOR_DBFS) if np.isfinite(ratio) else ratio
