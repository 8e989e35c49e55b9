"""From a source's frames to 24 kHz mono: mixing, then resampling.

Both are exact streams: however the input is cut into blocks, the concatenated output is the same, bit for bit.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import soxr
from numpy.typing import NDArray

from mertd.capture.source import Frames
from mertd.defaults import SAMPLE_RATE
from mertd.errors import SourceError

ACTIVE_DBFS = -70.0
"""Mean level above which a channel carries signal."""

ACTIVE_BLOCK_S = 0.1
"""Seconds over which `mix=active` measures the level of each channel."""

ACTIVE_BLOCKS = 30
"""Measurements for which a channel counts as active after it last carried signal."""

Mono = NDArray[np.float32]
"""Consecutive samples, (n,), full scale 1."""


class MonoConverter:
    """Mixing and resampling of one stream, from `channels` at `rate` Hz to mono at SAMPLE_RATE."""

    def __init__(self, rate: int, channels: int, mix: str) -> None:
        """`mix`: `mean`, `active`, or a channel number from 1. Raises `SourceError` if the source has no such channel."""
        if mix.isdecimal() and int(mix) > channels:
            raise SourceError(f"mix={mix}: the source has only {channels} channel{'s' if channels > 1 else ''}")
        self._mix = mix
        self._rate = rate
        self._active_mix = _ActiveMix(rate, channels) if mix == "active" else None
        self._resampler = (
            soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ") if rate != SAMPLE_RATE else None
        )

    def feed(self, frames: Frames) -> Mono:
        """Take frames (n, channels) and return the samples (m,) that are ready; m varies."""
        mono = self._mono(frames)
        return mono if self._resampler is None else np.asarray(self._resampler.resample_chunk(mono), np.float32)

    def flush(self) -> Mono:
        """Return the last samples; no frames may follow."""
        empty = np.zeros(0, np.float32)
        return empty if self._resampler is None else np.asarray(self._resampler.resample_chunk(empty, last=True), np.float32)

    def to_output(self, frames: int) -> float:
        """Return the number of output samples for the first `frames` input frames: the resampler delays nothing."""
        return frames * SAMPLE_RATE / self._rate

    def _mono(self, frames: Frames) -> Mono:
        if self._active_mix is not None:
            return self._active_mix.mix(frames)
        if self._mix != "mean":
            return np.ascontiguousarray(frames[:, int(self._mix) - 1])
        return channel_mean(frames)


class _ActiveMix:
    """Mean of the channels that carry signal, so that a dead one does not cost 6 dB. Decisions apply from the next block on."""

    def __init__(self, rate: int, channels: int) -> None:
        self._size = max(1, round(rate * ACTIVE_BLOCK_S))
        self._recent: deque[NDArray[np.bool_]] = deque(maxlen=ACTIVE_BLOCKS)
        self._block = np.zeros((self._size, channels), np.float32)
        self._filled = 0
        self._active = np.ones(channels, np.bool_)

    def mix(self, frames: Frames) -> Mono:
        """Return the mean, (n,), of the active channels of frames (n, channels)."""
        parts = []
        while len(frames):
            now = frames[: self._size - self._filled]
            parts.append(channel_mean(now[:, self._active]))
            self._block[self._filled : self._filled + len(now)] = now
            self._filled += len(now)
            if self._filled == self._size:
                self._measure()
            frames = frames[len(now) :]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _measure(self) -> None:
        power = np.square(self._block, dtype=np.float64).mean(axis=0)
        self._recent.append(power > 10 ** (ACTIVE_DBFS / 10))
        active = np.any(self._recent, axis=0)
        self._active = active if active.any() else np.ones_like(active)
        self._filled = 0


def channel_mean(frames: Frames) -> Mono:
    """Return the mean over channels, summed one after the other so that rounding does not depend on the block's size."""
    total = frames[:, 0].copy()
    for channel in range(1, frames.shape[1]):
        total += frames[:, channel]
    return total / np.float32(frames.shape[1])
