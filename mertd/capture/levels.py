"""Advice from the levels of a recording: what is heard of it is silent, or its channels cancel each other in the mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mertd.capture.mono import channel_mean
from mertd.capture.source import Frames

MAX_CANCELLED_SHARE = 1e-3
"""Share of the power of the channels, 30 dB less, below which their mean counts as cancelled."""


class LevelCheck:
    """Measures a recording block by block."""

    def __init__(self, channels: int) -> None:
        self._power: NDArray[np.float64] = np.zeros(channels)  # sum of squares of each channel
        self._mean_power = 0.0  # sum of squares of the mean of the channels
        self._frames = 0

    def add(self, frames: Frames) -> None:
        """Measure `frames`, (n, channels)."""
        self._frames += len(frames)
        self._power += np.einsum("nc,nc->c", frames, frames, dtype=np.float64)
        if frames.shape[1] > 1:
            mean = channel_mean(frames)
            self._mean_power += float(np.dot(mean, mean))

    def hints(self, mix: str) -> tuple[str, ...]:
        """Return what the levels of all frames suggest. `mix`: which channels are heard, as in an address."""
        if not self._frames:
            return ()
        if not self._power.any():
            return ("all of its samples are zero: is it the right file?",)
        loudest = int(self._power.argmax()) + 1
        if mix.isdecimal() and not self._power[int(mix) - 1]:
            return (f"all samples of channel {mix} are zero, but not those of channel {loudest}; hear it with ?mix={loudest}",)
        if mix == "mean" and len(self._power) > 1 and self._mean_power < MAX_CANCELLED_SHARE * float(self._power.mean()):
            return (
                f"its channels cancel each other in the mono mix, they are out of phase; hear one of them with ?mix={loudest}",
            )
        return ()
