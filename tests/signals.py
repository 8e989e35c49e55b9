"""Test signals, synthesised: the same samples on every machine to float32 rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def chord_progression(seconds: float, rate: int = 24_000, seed: int = 0) -> NDArray[np.float32]:
    """A melody over changing chords with a little noise, peak below 1. Shape (samples,)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    t = np.arange(round(seconds * rate)) / rate
    beat = (t * 2).astype(int)
    roots = np.array([220.0, 174.61, 261.63, 196.0])[beat // 4 % 4]
    melody = roots * 2 ** (np.array([0, 4, 7, 12, 11, 7, 4, 2])[beat % 8] / 12)
    envelope = np.exp(-3 * (t * 2 % 1))
    y = 0.2 * envelope * np.sin(2 * np.pi * np.cumsum(melody * 2) / rate)
    for ratio in (1, 1.25, 1.5):
        y += 0.12 * np.sin(2 * np.pi * np.cumsum(roots * ratio) / rate)
    return (y + 0.005 * generator.standard_normal(t.size)).astype(np.float32)
