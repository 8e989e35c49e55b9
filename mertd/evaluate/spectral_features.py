"""A simple description of sound as a yardstick: mean and spread of the log-mel spectrum. No learning is in it.

Rules of this file: no I/O.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE

FRAME = 1_024
"""Samples in a frame."""

STEP = 512
"""Samples between the starts of two frames."""

BANDS = 40
"""Bands of the mel scale."""

FLOOR = 1e-10
"""Least power in a band, so that its logarithm is finite."""


def spectral_features(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation of each band's log power over a window, (2 * BANDS,), without its level."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::STEP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), axis=1)))
    bands = np.log(power @ mel_bands().T + FLOOR)
    mean = bands.mean(axis=0)
    return np.concatenate([mean - mean.mean(), bands.std(axis=0)]).astype(np.float32)


def mel_bands() -> NDArray[np.float64]:
    """Return triangular bands of equal width on the mel scale, (BANDS, FRAME // 2 + 1)."""
    top = 2_595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2_595) - 1)
    frequencies = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    width = np.diff(edges)[:, None]
    rising = (frequencies - edges[:-2, None]) / width[:-1]
    falling = (edges[2:, None] - frequencies) / width[1:]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))
