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


def wandering(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """Notes of random pitch, length and loudness: no second of it is like another. Peak below 1. Shape (samples,)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    parts: list[NDArray[np.float64]] = []
    total = 0
    while total < seconds * rate:
        t = np.arange(round(generator.uniform(0.1, 0.6) * rate)) / rate
        pitch, loudness = 110 * 2 ** generator.uniform(0, 4), generator.uniform(0.05, 0.5)
        tone = np.sin(2 * np.pi * pitch * t) + 0.5 * np.sin(4 * np.pi * pitch * t + 1)
        breath = generator.standard_normal(t.size) * generator.uniform(0, 0.2)
        parts.append(loudness * np.exp(-generator.uniform(0, 6) * t) * (tone + breath))
        total += t.size
    return np.clip(np.concatenate(parts)[: round(seconds * rate)], -0.99, 0.99).astype(np.float32)


def sounds(seconds: float) -> dict[str, NDArray[np.float32]]:
    """Music as it may come, and as it should not."""
    music = chord_progression(seconds)
    impulse = np.zeros_like(music)
    impulse[len(impulse) // 2] = 1
    return {
        "music": music,
        "quiet": music * np.float32(0.001),
        "clipped": np.clip(music * 20, -1, 1),
        "offset": music + np.float32(0.5),
        "silent": np.zeros_like(music),
        "impulse": impulse,
    }
